"""The units that a budget pays for, and the counts that a part may have."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.prune.selection import Choice, choice, spend


def test_counts_are_multiples_and_what_goes_is_the_least_important():
    importance = torch.zeros(40)
    importance[[3, 7]] = torch.tensor([5.0, 2.0])
    found = choice(importance, "neurons", lambda counts: 2.0 * counts)
    assert found.counts.tolist() == [16, 32, 40]
    assert found.lost.tolist() == [0, 0, 0]
    assert found.cost.tolist() == [32, 64, 80]
    heads = choice(torch.tensor([3.0, 1.0, 2.0]), "heads", lambda counts: 1.0 * counts)
    assert heads.counts.tolist() == [1, 2, 3]
    assert heads.lost.tolist() == [3, 1, 0]


def choices(seed, parts=4, counts=6):
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(parts):
        each = np.sort(draw.exponential(size=counts))
        lost = np.concatenate([[0], np.cumsum(each)])[counts - np.arange(1, counts + 1)]
        made.append(Choice(np.arange(1, counts + 1), lost, np.cumsum(draw.uniform(0.1, 1, counts))))
    return made


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_budget_is_spent_almost_as_well_as_by_trying_everything(seed, share):
    parts = choices(seed)
    budget = share * sum(choice.cost[-1] for choice in parts)
    if budget < sum(choice.cost[0] for choice in parts):
        pytest.skip("out of reach")
    counts = spend({"heads": parts}, budget)["heads"]
    places = [count - 1 for count in counts]

    def of(chosen):
        lost = sum(choice.lost[at] for choice, at in zip(parts, chosen, strict=True))
        return lost, sum(choice.cost[at] for choice, at in zip(parts, chosen, strict=True))

    lost, ms = of(places)
    assert ms <= budget + 1e-9
    every = itertools.product(*(range(len(choice.counts)) for choice in parts))
    best = min(found[0] for found in map(of, every) if found[1] <= budget)
    assert lost <= 1.15 * best + 0.2


def test_everything_stays_if_there_is_time_for_it():
    parts = choices(0)
    found = spend({"heads": parts[:1], "neurons": parts[1:]}, 1e9)
    assert found == {"heads": [6], "neurons": [6, 6, 6]}


def test_what_no_count_can_reach_is_refused():
    with pytest.raises(ModelError, match=r"at least .* remain where 0.01 are asked for"):
        spend({"heads": choices(0)}, 0.01)
