"""The commands: ``schedule-zero-server``, ``schedule-zero-handler``, ``schedule-zero`` and ``schedule-zero-testbed``.

They read arguments, files and the environment, print, and set exit codes; what they do stands elsewhere.
Every import that ``--help`` doesn't need is made where it is used.
"""
