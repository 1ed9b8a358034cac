"""The three commands: ``schedule-zero-server``, ``schedule-zero-handler`` and ``schedule-zero``.

They read arguments, files and the environment, print, and set exit codes; what they do stands elsewhere.
Every import that ``--help`` doesn't need is made where it is used.
"""
