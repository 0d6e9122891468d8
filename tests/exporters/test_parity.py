"""A pass that changes the answers raises an error."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from rarefy.exporters import parity
from rarefy.pipeline.tasks.classification.multi_label import MULTI_LABEL_CLASSIFICATION
from rarefy.pipeline.tasks.regression.task import REGRESSION
from rarefy.pipeline.terms.errors import ModelError
from tests.exporters.graphs import exported
from tests.models import TASK


def test_a_graph_that_answers_otherwise_is_refused_by_the_name_of_the_pass(rows):
    graph, expected = exported("Bert", rows)
    weight = next(
        value for name, value in graph.graph.initializers.items() if name.endswith("weight.T")
    )

    weight.const_value = ir.tensor(weight.const_value.numpy() * 1.5)
    with pytest.raises(ModelError, match="after the pass sabotage"):
        parity.check(TASK, graph, expected, "fp32", "the pass sabotage")


def test_decisions_close_to_their_threshold_are_no_drift() -> None:
    task = MULTI_LABEL_CLASSIFICATION.bind(("a", "b", "c"), 8, ("text",))
    logits = np.full((4, 3), 0.01, np.float32)
    assert (task.head.predictions(logits)[:, 3:] != task.head.predictions(-logits)[:, 3:]).all()
    close = parity.compare(task, [logits], [-logits], "int8", "test")
    assert close.agreement == 0
    with pytest.raises(ModelError, match=r"predictions differ from PyTorch's by 0\.27 on average"):
        parity.compare(task, [logits], [logits - 1.2], "int8", "test")


def test_decisions_far_from_their_threshold_must_stay() -> None:
    task = MULTI_LABEL_CLASSIFICATION.bind(("a", "b"), 8, ("text",))
    task = task.of_model({"thresholds": {"a": 0.5, "b": 0.3}})
    logits = np.tile(np.array([[3.0, -0.35]], np.float32), (20, 1))
    other = logits.copy()
    other[:3, 1] -= 0.6
    with pytest.raises(ModelError, match=r"only 85\.0% of the predictions equal PyTorch's"):
        parity.compare(task, [logits], [other], "int8", "test")


SCORES = np.random.default_rng(0).normal(1000.0, 10.0, (200, 1)).astype(np.float32)
RARE = np.random.default_rng(1).normal(-4.0, 0.6, (200, 28)).astype(np.float32)


@pytest.mark.parametrize(
    ("task", "logits", "other"),
    [
        (REGRESSION.bind((), 8, ("text",)), SCORES, np.full_like(SCORES, 1000)),
        (REGRESSION.bind((), 8, ("text",)), SCORES, SCORES[::-1]),
        (
            MULTI_LABEL_CLASSIFICATION.bind(
                tuple(map(str, range(28))), 8, ("text",), (0.05, *(0.5,) * 27)
            ),
            RARE,
            np.full_like(RARE, -4),
        ),
    ],
    ids=["the same score", "another order", "no label ever"],
)
def test_answers_that_do_not_tell_rows_apart_are_refused(task, logits, other) -> None:
    noise = np.random.default_rng(2).normal(0, 0.05 * logits.std(), logits.shape)
    near = (logits + noise).astype(np.float32)
    assert parity.compare(task, [logits], [near], "int8", "test").rows == 200
    with pytest.raises(ModelError, match="of what these differ between rows"):
        parity.compare(task, [logits], [other], "int8", "test")


@pytest.mark.parametrize("precision", parity.TOLERANCE)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_an_error_in_any_precision(precision, bad) -> None:
    task = MULTI_LABEL_CLASSIFICATION.bind(("a", "b"), 8, ("text",))
    logits = np.tile(np.array([[3.0, -3.0]], np.float32), (200, 1))
    other = logits.copy()
    other[7, 1] = bad
    with pytest.raises(ModelError, match="the logits are not finite after test"):
        parity.compare(task, [logits], [other], precision, "test")


def test_bf16_may_differ_more_than_fp32_and_not_at_will() -> None:
    """It has eight bits of precision: half a percent of the largest value, in each operator."""
    task = MULTI_LABEL_CLASSIFICATION.bind(("a", "b"), 8, ("text",))
    logits = np.tile(np.array([[3.0, -3.0]], np.float32), (20, 1))
    assert parity.compare(task, [logits], [logits * 0.98], "bf16", "test").agreement == 1
    with pytest.raises(ModelError, match=r"fp32 allows 0\.0003"):
        parity.compare(task, [logits], [logits * 0.98], "fp32", "test")
    with pytest.raises(ModelError, match=r"bf16 allows 0\.3"):
        parity.compare(task, [logits], [logits * 0.85], "bf16", "test")
    assert parity.compare(task, [logits], [logits * 0.99], "fp16", "test").agreement == 1
    with pytest.raises(ModelError, match=r"fp16 allows 0\.06"):
        parity.compare(task, [logits], [logits * 0.95], "fp16", "test")


def test_a_few_cases_have_every_kind(rows) -> None:
    _, expected = exported("Bert", rows)
    few = parity.few(expected)
    shapes = [case.feed["input_ids"].shape for case in few]
    assert len(few) < len(expected)
    assert (1, 1) in shapes
    assert max(shape[1] for shape in shapes) == max(
        case.feed["input_ids"].shape[1] for case in expected
    )
    assert any((case.feed["attention_mask"] == 0).any() for case in few)


SHORT_ROWS = [
    {"input_ids": [2, *range(10, 10 + length), 3], "attention_mask": [1] * (length + 2)}
    for length in (3, 0, 5)
]


@pytest.mark.parametrize(
    ("settings", "limit", "lengths"),
    [
        ({}, 64, [64]),
        ({"local_attention": 16}, 64, [9, 17, 64]),
        ({"sliding_window": None}, 64, [64]),
        ({"position_buckets": 256, "max_relative_positions": -1}, 512, [129, 257, 512]),
        ({"sliding_window": 100}, 40, [40]),  # no row of the bundle is so long
        ({"sliding_window": 4096}, 8192, [2049, 4097, 8192]),
        ({}, 8192, [2048]),
    ],
)
def test_rows_are_as_long_as_the_boundaries_and_the_bundle_demand(settings, limit, lengths):
    config = SimpleNamespace(**settings)
    made = parity.long_rows(config, SHORT_ROWS, limit)
    assert [len(row["input_ids"]) for row in made] == lengths
    assert parity.reach(config, limit) == lengths[-1]


@pytest.mark.parametrize("length", [1, 2, 5, 8, 31, 200])
def test_a_joined_row_begins_and_ends_as_a_real_one_and_holds_the_others(length):
    row = parity.joined(SHORT_ROWS, length)
    assert len(row["input_ids"]) == len(row["attention_mask"]) == length
    assert row["input_ids"][0] == 2
    if length >= 5:
        assert row["input_ids"][-1] == 3
        assert not {2, 3} & set(row["input_ids"][1:-1])
    if length >= 31:
        assert set(row["input_ids"]) == {2, 3, *range(10, 15)}


def test_rows_without_a_middle_are_joined_too():
    assert parity.joined([{"input_ids": [7]}], 4)["input_ids"] == [7] * 4
