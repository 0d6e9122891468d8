"""The same few rows a hundred times are no evidence."""

from __future__ import annotations

import pytest

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement
from rarefy.pipeline.tasks.task import groups_of_blocks
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.verdict.judge import judge
from tests.models import TASK

MARGIN = Budget(metric="accuracy", max_drop="1 point", against="teacher")


def outcome(texts: list[str], groups: list[str] | None = None) -> tuple[str, str]:
    """Return the verdict, and its reason, on two models that answer all rows alike."""
    rows = len(texts)
    split = Split("eval", "eval.jsonl", "0" * 64, texts, None, [0] * rows, groups=groups)
    same = ModelMeasurement(digest="0", size=1, answers=[[0.9, 0.1]] * rows)
    measured = Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * rows,
        groups=groups_of_blocks(TASK, split),
        models={"candidate": same, "teacher": same},
        latency={},
    )
    verdict = judge([MARGIN], (), measured)
    return verdict.outcome, verdict.budgets[0].reason


@pytest.mark.parametrize(
    "groups",
    [None, [str(row) for row in range(2000)], [str(row % 500) for row in range(2000)]],
    ids=["no groups", "a group each", "groups of the same rows"],
)
def test_twenty_rows_a_hundred_times_do_not_pass(groups: list[str] | None) -> None:
    repeated = [f"text {row % 20}" for row in range(2000)]
    said, reason = outcome(repeated, groups)
    assert said == "inconclusive"
    assert "but the split has only 20" in reason or "margin" in reason


def test_as_many_different_rows_pass_although_a_few_repeat() -> None:
    different = [f"text {row}" for row in range(2000)]
    assert outcome(different)[0] == "pass"
    assert outcome([*different[:1980], *different[:20]])[0] == "pass"
