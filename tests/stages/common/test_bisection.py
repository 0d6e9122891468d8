"""As many as fit within a limit."""

from __future__ import annotations

import pytest

from rarefy.stages.common.bisection import most_within


@pytest.mark.parametrize("fits", range(12))
def test_as_many_layers_as_the_limit_allows_are_found_in_few_trials(fits):
    trials = []

    def damage(count):
        trials.append(count)
        return float(count)

    assert most_within(fits + 0.5, 11, damage) == (fits, fits)
    assert len(trials) <= 5
