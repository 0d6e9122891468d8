"""Heads and neurons compete by what they cost in multiply-adds."""

from __future__ import annotations

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.prune import multiply_adds
from rarefy.stages.surgery import units as surgery
from tests.stages.classifiers import classifier


def parts_of(model):
    return {unit: surgery.parts(model, unit) for unit in ("heads", "neurons")}


def total(parts):
    return sum(multiply_adds.of_part(part) for unit in parts for part in parts[unit])


def test_a_head_costs_its_rows_and_columns():
    parts = parts_of(classifier("bert"))  # 32 wide, heads of 8, 64 neurons
    assert multiply_adds.of_unit(parts["heads"][0]) == 4 * 8 * 32
    assert multiply_adds.of_unit(parts["neurons"][0]) == 2 * 32


@pytest.mark.parametrize("share", [0.2, 0.5, 0.6])
def test_the_share_that_was_asked_for_goes(share):
    parts = parts_of(classifier("bert"))
    torch.manual_seed(0)
    importance = {unit: [torch.rand(part.count) for part in parts[unit]] for unit in parts}
    kept = multiply_adds.counts(importance, parts, (1 - share) * total(parts))
    whole, left = (
        sum(
            count * multiply_adds.of_unit(part)
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
    kept = multiply_adds.counts(importance, parts, 0.7 * total(parts))
    assert kept["heads"] == [part.count for part in parts["heads"]]
    assert min(kept["neurons"]) < 64


def test_more_than_there_is_to_give_is_refused():
    parts = parts_of(classifier("bert"))
    importance = {unit: [torch.ones(part.count) for part in parts[unit]] for unit in parts}
    with pytest.raises(ModelError, match=r"prune: 80% of .* is too much; they have 75% to give"):
        multiply_adds.counts(importance, parts, 0.2 * total(parts))


def test_of_a_factorized_layer_only_what_shrinks_is_counted():
    model = classifier("bert")
    layer = model.bert.encoder.layer[0]
    layer.intermediate.dense = checkpoint.factorized(32, 16, 64, bias=True)
    part = surgery.parts(model, "neurons")[0]
    assert multiply_adds.of_unit(part) == 16 + 32, "a row of up, and a column of the plain reader"
    assert multiply_adds.of_part(part) == 32 * 16 + 16 * 64 + 64 * 32


def test_the_share_goes_of_factorized_layers_too():
    model = classifier("bert")
    for layer in model.bert.encoder.layer:
        layer.intermediate.dense = checkpoint.factorized(32, 16, 64, bias=True)
        layer.output.dense = checkpoint.factorized(64, 16, 32, bias=True)
    parts = {"neurons": surgery.parts(model, "neurons")}
    before = total(parts)
    importance = {"neurons": [torch.ones(part.count) for part in parts["neurons"]]}
    kept = multiply_adds.counts(importance, parts, 0.7 * before)
    for part, count in zip(parts["neurons"], kept["neurons"], strict=True):
        surgery.keep_units(part, torch.arange(count))
    after = total({"neurons": surgery.parts(model, "neurons")})
    assert 0.55 <= after / before <= 0.7
