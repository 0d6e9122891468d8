"""The worst of several outcomes counts."""

from __future__ import annotations

from itertools import product

from rarefy.pipeline.terms.outcomes import ORDER, worst


def test_a_failure_outweighs_what_is_open_and_that_outweighs_a_pass() -> None:
    for outcomes in product((*ORDER, None), repeat=3):
        found = worst(outcomes)
        if "fail" in outcomes:
            assert found == "fail"
        elif "inconclusive" in outcomes:
            assert found == "inconclusive"
        else:
            assert found == ("pass" if "pass" in outcomes else None)


def test_nothing_judged_is_no_outcome() -> None:
    assert worst([]) is None
