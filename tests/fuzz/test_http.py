"""Generated requests to every route, other ones each time. Its sample is tests/integration/test_api_contract.py."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, seed, settings

from tests.fuzz.mutator import chosen_seed
from tests.sizes import SIZE, SIZES

if SIZES["sample"] == SIZE:
    pytest.skip("its sample is tests/integration/test_api_contract.py; FAULTS=full does it", allow_module_level=True)

from tests.integration.api_contract import check, live, schema

__all__ = ["live"]

SEED = chosen_seed()
pytestmark = [
    pytest.mark.timeout(3600),
    # One server answers all of them.
    pytest.mark.xdist_group("fuzz-http"),
]


@schema.parametrize()
@seed(SEED)
@settings(
    max_examples=SIZE.requests,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_to_a_generated_request_is_one_that_the_document_announces(case, live, tried):
    check(case, live)
    tried("7 fuzz", "generated requests to each route").faults += 1
