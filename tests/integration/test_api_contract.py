"""Generated requests against the OpenAPI document: whatever is sent, the answer is one that the document announces.

Few examples, and always the same (derandomised): this finds a route that drifts from its description. It is no fuzzing
campaign: that is ``tests/fuzz/test_http.py``, whose sample this is.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.integration.api_contract import check, live, schema

__all__ = ["live"]

OPERATIONS = {found.ok().label: found.ok() for found in schema.get_all_operations()}


# (Not ``schema.parametrize``: it makes its cases at collection, and so in each of pytest's workers, of which that was
# half of what they do before their first test.)
@pytest.mark.parametrize("label", list(OPERATIONS))
def test_every_answer_is_one_that_the_document_announces(label, live):
    modes = [OPERATIONS[label].as_strategy(generation_mode=mode) for mode in GenerationMode]

    @settings(
        max_examples=8,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(modes))
    def answers(case):
        check(case, live)

    answers()
