"""The example handlers, importable as ``schedule_zero.handlers.demo`` and so on from a wheel and a checkout alike.

In the repository they stand in ``handlers/`` at the top, where a reader looks for examples; the wheel carries them
right here. In a checkout, then, this package looks there too.
"""

from pathlib import Path

_checkout = Path(__file__).parents[2]
# The second condition: never take a stranger's folder that happens to stand beside site-packages.
if not Path(__file__).with_name("demo.py").exists() and (_checkout / "pyproject.toml").exists():
    __path__.append(str(_checkout / "handlers"))
