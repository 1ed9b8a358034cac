"""What node and server say to each other: messages and codec, used by both ends. No sockets."""
