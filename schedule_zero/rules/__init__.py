"""Pure decisions: the same arguments give the same answer. No I/O, no clock, no chance."""
