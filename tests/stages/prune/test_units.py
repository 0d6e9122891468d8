"""Heads and neurons are physically removed, and the rest answers like the masked original."""

from __future__ import annotations

import gc

import pytest
import torch

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.prune import Prune
from rarefy.stages.prune import units as unit_search
from rarefy.stages.prune.units import Removed
from rarefy.stages.training import calibration_rows
from tests.models import FILL, GOOD
from tests.stages.classifiers import PATHS, masked_logits, one_where


@pytest.mark.parametrize("method", ["fisher", "taylor", "magnitude"])
def test_stage_removes_the_share_and_equals_the_masked_original(fresh, make_context, method):
    context = make_context()
    stage = Prune(remove_heads="25 %", remove_neurons="50 %", method=method, repair=False)
    draft = stage.run(context, fresh)
    original, pruned = checkpoint.load(fresh.directory), checkpoint.load(context.output)
    assert sum(draft.model["heads"]) == 9
    assert sum(draft.model["intermediate"]) == pytest.approx(96, abs=24)
    assert all(count % 16 == 0 for count in draft.model["intermediate"])
    assert draft.model["parameters"] < checkpoint.describe(original)["parameters"]
    masks = {}
    layers = zip(original.bert.encoder.layer, pruned.bert.encoder.layer, strict=True)
    for i, (old, new) in enumerate(layers):
        rows, kept = old.intermediate.dense.weight, new.intermediate.dense.weight
        found = [int((rows - row).abs().sum(1).argmin()) for row in kept]
        masks[PATHS["bert"][1].format(i)] = one_where(found, 64)
        rows, kept = old.attention.self.query.weight, new.attention.self.query.weight
        found = [int((rows - row).abs().sum(1).argmin()) for row in kept]
        masks[PATHS["bert"][0].format(i)] = one_where(found, 32)
    expected = masked_logits(original, masks)
    torch.testing.assert_close(masked_logits(pruned, {}), expected, atol=1e-4, rtol=0)


def test_each_round_leaves_its_part_of_the_whole():
    rounds = [Removed({}, 0, None, "fisher", False, 2, number, None) for number in (1, 2)]
    assert [each.left(0.75) for each in rounds] == [0.5, 0.25]


def test_what_cannot_go_is_refused_before_anything_is_trained(fresh):
    network = checkpoint.load(fresh.directory)
    start = unit_search.measured(network)
    assert unit_search.share(0.5, None, network, start) == 0.5
    with pytest.raises(ModelError, match=r"85% of .* is too much; at most 75% can be removed"):
        unit_search.share(0.85, None, network, start)
    rest = sum(weight.numel() for weight in network.parameters()) - start.cost
    with pytest.raises(
        ModelError, match=r"prune.keep_parameters: .* is out of reach, as each layer"
    ):
        unit_search.share(0, int(rest + 0.1 * start.cost), network, start)


def test_every_layer_keeps_a_head_and_some_neurons(fresh, make_context, caplog):
    draft = Prune(remove_heads=0.95, remove_neurons=0.95).run(make_context(), fresh)
    said = "prune.remove_heads: 95% requested, 75% removed: every layer keeps at least one unit"
    assert said in [each.getMessage() for each in caplog.records]
    assert draft.model["heads"] == [1, 1, 1]
    assert draft.model["intermediate"] == [16, 16, 16]


@pytest.mark.slow
def test_repair_needs_no_more_memory_for_more_rows(fresh, make_context):
    """Count the tensors alive at each forward pass, without those from before the run."""

    def peak(rows: int) -> int:
        text = " ".join((*FILL[:6], *GOOD[:2]))  # rows of one length, so batches have 32 rows
        split = Split(
            "train", "t.jsonl", "0" * 64, [text] * rows, None, [n % 2 for n in range(rows)]
        )
        context, most = make_context(splits={"train": split}), 0

        def watch(module, given):
            nonlocal most
            if isinstance(module, torch.nn.Embedding):
                held = [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
                alive = {t.data_ptr(): t.nbytes for t in held if t.is_floating_point()}
                most = max(most, sum(alive.values()))

        gc.collect()
        gc.freeze()
        try:
            with torch.nn.modules.module.register_module_forward_pre_hook(watch):
                Prune(remove_heads=0.25, remove_neurons=0.5).run(context, fresh)
        finally:
            gc.unfreeze()
        return most

    assert peak(256) <= 1.05 * peak(64)


def test_a_share_of_the_multiply_adds_goes_from_heads_and_neurons(tuned, make_context):
    context = make_context(rows=64)
    draft = Prune(remove_macs=0.4, calibration_rows=32).run(context, tuned)
    whole, small = (
        sum(
            4 * 8 * 32 * h + 2 * 32 * n
            for h, n in zip(told["heads"], told["intermediate"], strict=True)
        )
        for told in (checkpoint.describe(checkpoint.load(tuned.directory)), draft.model)
    )
    assert 0.5 <= small / whole <= 0.6


@pytest.mark.parametrize(("shares", "rounds"), [({"heads": 0.25}, 6), ({"neurons": 0.5}, 20)])
def test_many_rounds_remove_what_one_removes(fresh, make_context, shares, rounds):
    """A round that removes less than a unit of each layer must not lose it."""
    network, context = checkpoint.load(fresh.directory), make_context(rows=16)
    tokenizer = checkpoint.load_tokenizer(fresh.directory)
    rows, start = calibration_rows.sample(context, tokenizer, 16), unit_search.measured(network)
    for number in range(1, rounds + 1):
        removed = Removed(shares, 0, None, "magnitude", False, rounds, number, start)
        unit_search.remove(context, network, rows, removed)
    unit, share = next(iter(shares.items()))
    left = sum(unit_search.measured(network).units[unit]) / sum(start.units[unit])
    assert left == pytest.approx(1 - share, abs=0.09)


@pytest.mark.parametrize("embeds", [True, False])
def test_only_a_task_with_a_loss_has_one_on_the_calibration_rows(
    fresh, tiny_encoder, make_context, embeds
):
    task = {"task": SENTENCE_EMBEDDINGS.bind((), 32, ("text",))} if embeds else {}
    context = make_context(rows=16, **task)
    draft = Prune(remove_neurons=0.5).run(context, tiny_encoder if embeds else fresh)
    told = {metric.name for metric in draft.metrics}
    losses = {"calibration_loss_before", "calibration_loss"}
    assert told & losses == (set() if embeds else losses)


def test_repair_sees_the_second_texts_of_pairs_too():
    rows = [{"row": row} for row in range(1000)]
    for pairs in (150, 255, 500):
        chosen = [row["row"] for row in unit_search.spread(rows[: 2 * pairs], 256)]
        assert len({*chosen}) == 256
        assert sum(row < pairs for row in chosen) == 128
    assert unit_search.spread(rows[:8], 256) == rows[:8]
    assert unit_search.spread([], 256) == []


def test_pruning_repairs_by_rows_from_all_of_them(fresh, make_context, monkeypatch):
    asked, real = [], unit_search.spread
    monkeypatch.setattr(
        unit_search, "spread", lambda rows, count: asked.append(len(rows)) or real(rows, count)
    )
    Prune(remove_neurons=0.5, calibration_rows=32).run(make_context(rows=64), fresh)
    assert asked == [32]
