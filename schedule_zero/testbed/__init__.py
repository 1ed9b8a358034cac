"""Proof from outside: what was asked, what was broken, what the jobs did, and what the store says in the end.

Start reading at ``history.py`` (the inputs), then ``checker.py`` (what is concluded from them). ``chaos.py`` is the
handler whose jobs write the ledger. Nothing here runs in a server; nothing that a server says of itself is believed.
"""
