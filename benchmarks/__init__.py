"""The benchmark: W1…W9 of the performance budget against real processes, beside the bare loop as the floor.

``python -m benchmarks run`` measures, ``profile`` shows where the time goes, ``ceilings`` measures the parts that
nobody can beat (disk, HTTP framework, codecs). It uses the product as a stranger would: the two commands and the
HTTP API. The exceptions are named where they stand (``history.py`` fills a store that nobody would fill by hand).
"""
