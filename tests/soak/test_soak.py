"""One real minute of it, four hours of the run: the machinery, and the checker's word.

How much grows can't be seen in so short a time: the run of eight minutes and more says that (``make soak``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.__main__ import soak
from tests.tried import Tried


@pytest.mark.long
@pytest.mark.timeout(300)
def test_nothing_leaks_and_nothing_is_broken_in_a_minute_of_churn(
    tmp_path: Path, tried: Callable[[str, str], Tried]
) -> None:
    t = tried("8 soak", "churn and kills on a fast clock, memory and descriptors measured")
    outcome = soak(tmp_path, minutes=1, speedup=240, seed=1)
    t.faults += len(outcome.ends)
    t.judged(outcome.report)
    assert outcome.report.ok, outcome.report.text()
    # Caches are still filling: see above.
    assert [finding for finding in outcome.findings if not finding.ok and finding.unit != "MiB/h"] == []
    assert outcome.ends
    assert all(life.samples for life in outcome.lives if life.judged)
    assert not [answer for answer in outcome.answers if answer.endswith(" 500")]
