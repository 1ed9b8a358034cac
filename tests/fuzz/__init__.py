"""Fuzzers: what strangers may send and what people may write, broken in every way that can be thought of.

``python -m tests.fuzz wire --seconds 60`` runs one for as long as one likes; see ``__main__``.
"""
