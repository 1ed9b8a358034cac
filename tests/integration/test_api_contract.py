"""Generated requests against the OpenAPI document: whatever is sent, the answer is one that the document announces.

Few examples, and always the same (derandomised): this finds a route that drifts from its description. It is no fuzzing
campaign: that is ``tests/fuzz/test_http.py``, whose sample this is.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

from tests.integration.api_contract import check, live, schema

__all__ = ["live"]


@schema.parametrize()
@settings(
    max_examples=3,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_announces(case, live):
    check(case, live)
