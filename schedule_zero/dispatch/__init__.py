"""Which node gets which execution, and for how long it may believe in it.

Start reading at ``dispatcher.py`` (the glue), then ``core.py`` (the decisions, pure, with the states and failure cases
at its head), ``placing``, ``endings``, ``lanes``, ``sessions``; ``router.py`` is the socket, ``curve.py`` its
keys, ``registry.py`` what the handlers can do.
"""
