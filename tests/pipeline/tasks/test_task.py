"""What every task shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rarefy.pipeline.tasks.task import groups_of_blocks, inputs_of
from tests.models import TASK


def test_a_model_gets_its_inputs_and_nothing_else():
    ids = torch.ones(2, 3)
    batch = {"input_ids": ids, "labels": ids, "row": ids, "first": ids, "attention_mask": ids}
    assert set(inputs_of(batch)) == {"input_ids", "attention_mask"}


def test_a_summed_loss_is_the_mean_times_the_rows(tiny_encoder):
    model = TASK.head.load(str(tiny_encoder.directory))
    batch = {
        "input_ids": torch.tensor([[2, 8, 3], [2, 9, 3]]),
        "attention_mask": torch.ones(2, 3, dtype=torch.long),
        "labels": torch.tensor([0, 1]),
    }
    mean = TASK.objective.training_loss()(model, batch)
    total = TASK.objective.summed_loss()(model, batch)
    assert total.item() == pytest.approx(2 * mean.item(), rel=1e-6)
    assert batch.keys() == {"input_ids", "attention_mask", "labels"}


def test_the_version_of_a_task_of_ours_stands_for_its_code():
    from rarefy.pipeline import tasks

    task = tasks.find("text-classification")
    assert tasks.code_of(task) == []
    assert tasks.code_of(replace(task, version=2)) == ["version 2"]


def test_rows_belong_together_if_several_have_a_group():
    from rarefy.pipeline.data.split import Split

    def groups(*names):
        rows = [f"row {at}" for at in range(3)]
        split = Split("eval", "e", "0" * 64, rows, None, [0, 1, 0], groups=names or None)
        return groups_of_blocks(TASK, split)

    assert groups() == []
    assert groups("ann", "ben", "cid") == [], "each row is a group of its own"
    assert groups("ann", "ben", "ann") == [0, 1, 0]


def test_blocks_of_equal_texts_belong_together():
    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.tasks.regression.task import REGRESSION

    def groups(task, texts, pairs=None, names=None):
        return groups_of_blocks(
            task, Split("eval", "e", "0" * 64, texts, pairs, None, groups=names)
        )

    assert groups(TASK, ["good", "bad", "Good!"]) == [0, 1, 0]
    assert groups(TASK, ["good", "bad", "good"], names=["ann", "ann", "ben"]) == [0, 1, 0]
    queries = ["q", "q", "r", "r", "q", "q"]
    ranked = ["a", "b", "a", "b", "b", "a"]
    assert groups(REGRESSION, queries, ranked, ["1", "1", "2", "2", "3", "3"]) == [0, 1, 0]
    assert groups(REGRESSION, queries, [*"abcdef"], ["1", "1", "2", "2", "3", "3"]) == []


def test_few_groups_are_warned_of():
    from types import SimpleNamespace

    source = SimpleNamespace(name="eval", reference="eval.jsonl")
    few, many = ["ann"] * 5 + ["ben"] * 5, [f"user {row // 2}" for row in range(60)]
    (warning,) = TASK.reader.check_groups([0] * 10, few, source)
    assert "its rows are in only 2 groups" in warning
    assert TASK.reader.check_groups([0] * 60, many, source) == []
    source.name = "train"
    assert TASK.reader.check_groups([0] * 10, few, source) == []
