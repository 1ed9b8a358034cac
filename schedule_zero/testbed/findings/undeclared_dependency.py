"""SQLAlchemyDataStore imports `sniffio`, which nothing asks for any more.

`pip install apscheduler[sqlalchemy]` should be all that it takes: "using the extras … helps ensure that you will have
compatible versions of the dependent libraries" (user guide, Installation). anyio brought sniffio along until 4.12;
since then the import fails in a fresh environment.
"""

import re
import sys
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

package = Path(find_spec("apscheduler").origin).parent
imported = "import sniffio" in (package / "datastores" / "sqlalchemy.py").read_text()
names = {re.match(r"[\w.-]+", line)[0] for name in ("apscheduler", "anyio") for line in requires(name)}

print("expected: what the store imports is a requirement of apscheduler, or of its requirement anyio")
missing = imported and "sniffio" not in names
print(f"seen: {'sniffio is imported, and required by neither' if missing else 'it is'}")
sys.exit(missing)
