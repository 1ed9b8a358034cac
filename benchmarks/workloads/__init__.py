"""W1…W7, one module per kind of work. Each takes a running deployment and adds its figures to ``Measured``."""
