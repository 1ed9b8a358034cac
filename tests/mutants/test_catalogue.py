"""The seeded bugs are kept up with the product: each still has its place, and tests that are there."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.__main__ import ROOT
from tests.mutants.catalogue import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_bug_has_its_place_and_leaves_code_that_compiles(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.file} was changed: move the seeded bug with it"
    assert mutant.new != mutant.old
    ast.parse(text.replace(mutant.old, mutant.new))
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file(), test


def test_there_are_twenty_seeded_bugs_and_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
