"""The units that a budget pays for, and the counts that a part may have."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.prune import selection
from rarefy.stages.prune.selection import Choice, choice, spend
from rarefy.stages.surgery import units as surgery
from tests.stages.classifiers import classifier


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


def test_ranking_is_global_with_a_floor_and_multiples():
    importance = [torch.arange(64.0) + 100, torch.arange(64.0)]
    assert selection.keep_counts(importance, 64, least=1) == [63, 1]
    assert selection.keep_counts(importance, 64, least=16, multiple=16) == [48, 16]
    assert selection.keep_counts(importance, 128, least=16, multiple=16) == [64, 64]
    assert selection.best(torch.tensor([3.0, 9.0, 1.0, 5.0]), 2).tolist() == [1, 3]


def parts_of(model):
    return {unit: surgery.parts(model, unit) for unit in ("heads", "neurons")}


def total(parts):
    return sum(selection.multiply_adds_of_part(part) for unit in parts for part in parts[unit])


def test_a_head_costs_its_rows_and_columns():
    parts = parts_of(classifier("bert"))  # 32 wide, heads of 8, 64 neurons
    assert selection.multiply_adds_of_unit(parts["heads"][0]) == 4 * 8 * 32
    assert selection.multiply_adds_of_unit(parts["neurons"][0]) == 2 * 32


@pytest.mark.parametrize("share", [0.2, 0.5, 0.6])
def test_the_share_that_was_asked_for_goes(share):
    parts = parts_of(classifier("bert"))
    torch.manual_seed(0)
    importance = {unit: [torch.rand(part.count) for part in parts[unit]] for unit in parts}
    kept = selection.counts_for_multiply_adds(importance, parts, (1 - share) * total(parts))
    whole, left = (
        sum(
            count * selection.multiply_adds_of_unit(part)
            for unit in parts
            for part, count in zip(parts[unit], counts[unit], strict=True)
        )
        for counts in ({unit: [p.count for p in parts[unit]] for unit in parts}, kept)
    )
    assert 1 - share - 0.06 <= left / whole <= 1 - share
    assert all(count % 16 == 0 for count in kept["neurons"])
    assert len({*kept["neurons"], *kept["heads"]}) > 1


def test_what_is_important_stays():
    parts = parts_of(classifier("bert"))
    importance = {unit: [torch.ones(part.count) for part in parts[unit]] for unit in parts}
    importance["heads"] = [1000 * values for values in importance["heads"]]
    kept = selection.counts_for_multiply_adds(importance, parts, 0.7 * total(parts))
    assert kept["heads"] == [part.count for part in parts["heads"]]
    assert min(kept["neurons"]) < 64


def test_more_than_there_is_to_give_is_refused():
    parts = parts_of(classifier("bert"))
    importance = {unit: [torch.ones(part.count) for part in parts[unit]] for unit in parts}
    with pytest.raises(
        ModelError, match=r"prune: 80% of .* is too much; at most 75% can be removed"
    ):
        selection.counts_for_multiply_adds(importance, parts, 0.2 * total(parts))


def test_of_a_factorized_layer_only_what_shrinks_is_counted():
    model = classifier("bert")
    layer = model.bert.encoder.layer[0]
    layer.intermediate.dense = checkpoint.factorized(32, 16, 64, bias=True)
    part = surgery.parts(model, "neurons")[0]
    assert selection.multiply_adds_of_unit(part) == 16 + 32, (
        "a row of up, and a column of the plain reader"
    )
    assert selection.multiply_adds_of_part(part) == 32 * 16 + 16 * 64 + 64 * 32


def test_the_share_goes_of_factorized_layers_too():
    model = classifier("bert")
    for layer in model.bert.encoder.layer:
        layer.intermediate.dense = checkpoint.factorized(32, 16, 64, bias=True)
        layer.output.dense = checkpoint.factorized(64, 16, 32, bias=True)
    parts = {"neurons": surgery.parts(model, "neurons")}
    before = total(parts)
    importance = {"neurons": [torch.ones(part.count) for part in parts["neurons"]]}
    kept = selection.counts_for_multiply_adds(importance, parts, 0.7 * before)
    for part, count in zip(parts["neurons"], kept["neurons"], strict=True):
        surgery.keep_units(part, torch.arange(count))
    after = total({"neurons": surgery.parts(model, "neurons")})
    assert 0.55 <= after / before <= 0.7
