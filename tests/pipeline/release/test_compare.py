"""The regression gate of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.measure.gate import Comparison
from pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from pipeline.release import recorded
from pipeline.release.bundles import Bundle
from pipeline.release.compare import judge, labelled_rows
from pipeline.release.comparison import Compared
from pipeline.terms.errors import DataError
from pipeline.terms.interval import Interval
from pipeline.terms.vocabulary import Data, Target
from tests.pipeline.measure import bundles


@pytest.mark.parametrize(
    ("margin", "limit", "outcome"), [(0.2, 0.05, "fail"), (0.05, 0.2, "pass"), (0.05, 0.1, None)]
)
@pytest.mark.parametrize("throttled", [None, "calls became 40 % longer half way"])
def test_recorded_times_are_judged_by_the_limit_not_by_the_word_that_was_asked_for(
    margin: float, limit: float, outcome: str | None, throttled: str | None
) -> None:
    generator = np.random.default_rng(0)
    rows = generator.lognormal(0, 0.3, 60) * generator.lognormal(0, 0.005, (9, 60))
    then = Latency(samples={"baseline": rows.tolist()})
    now = Latency(samples={"candidate": (rows * 1.1).tolist()}, throttled=throttled)
    answers = ModelMeasurement(digest="d", size=1, answers=[[1.0, 0.0]] * 400)
    measured = Measurements(
        machine={}, task="text-classification", labels=["a", "b"], truth=[0] * 400,
        models={"candidate": answers, "baseline": answers}, latency={},
    )  # fmt: skip
    compared = Compared(
        names={}, measurements=measured, latency={"candidate": now, "baseline": then},
        times=recorded.change(now, then, margin), margin=margin, recorded="run.json",
    )  # fmt: skip
    judged = judge(compared, limit, Target())
    time = next(b for b in judged.budgets if b.metric == "latency_p50")
    if throttled:
        assert time.outcome == judged.outcome == "inconclusive"
        assert judged.exit_code(strict=False) == 4
    else:
        assert time.outcome == (outcome or "inconclusive")
        assert judged.exit_code(strict=False) == (3 if outcome == "fail" else 0)


def test_a_limit_is_on_the_task_s_main_score() -> None:
    rows = np.random.default_rng(0).lognormal(0, 0.3, (9, 60))
    timed = {
        "candidate": Latency(samples={"candidate": rows.tolist()}),
        "baseline": Latency(samples={"baseline": rows.tolist()}),
    }
    scores = np.random.default_rng(1).normal(size=(200, 1))
    same = ModelMeasurement(digest="d", size=1, answers=scores.tolist())
    measured = Measurements(
        machine={}, task="regression", labels=[], truth=scores[:, 0].tolist(),
        models={"candidate": same, "baseline": same}, latency={},
    )  # fmt: skip
    compared = Compared(
        names={}, measurements=measured, latency=timed,
        times=recorded.change(*timed.values(), 0.05), margin=0.05, recorded="run.json",
    )  # fmt: skip
    judged = {budget.metric: budget.outcome for budget in judge(compared, 0.2, Target()).budgets}
    assert judged["spearman"] == "pass"
    assert "accuracy" not in judged


@pytest.mark.parametrize(("other", "outcome"), [(0, "pass"), (60, "fail")])
def test_rows_without_labels_are_judged_by_agreement_with_the_baseline(
    other: int, outcome: str
) -> None:
    """A bundle against itself, and one that answers some rows otherwise."""
    chance = np.random.default_rng(0).random((400, 1))
    answers = np.hstack([chance, 1 - chance])
    ours = answers.copy()
    ours[:other] = answers[:other, ::-1]
    blocks = np.random.default_rng(1).lognormal(0, 0.01, (6, 100)).tolist()
    timed = Latency(samples={"candidate": blocks, "baseline": blocks}, provider="cpu")
    measured = Measurements(
        machine={}, task="text-classification", labels=["a", "b"], unlabelled=True,
        truth=[int(row[1] > row[0]) for row in answers], latency={"default": timed},
        models={
            "candidate": ModelMeasurement(digest="c", size=1, answers=ours.tolist()),
            "baseline": ModelMeasurement(digest="b", size=1, answers=answers.tolist()),
        },
    )  # fmt: skip
    times = Comparison("equal", Interval(1, 1, 1), None)
    compared = Compared({}, measured, {}, times, 0.05)
    verdict = judge(compared, 0.05, Target(name="default"))
    judged = {budget.metric: budget.outcome for budget in verdict.budgets}
    assert judged == {"agreement": outcome, "latency_p50": "pass", "size": "pass"}


def rows_for(folder: Path, *labels: str | None) -> tuple[Bundle, Data]:
    """A bundle with the labels no and yes, and a file of rows as ``--data`` names it."""
    bundle = Bundle("tiny", bundles.make(folder / "bundle"), None)
    rows = [{"text": f"w{at}", "label": label} for at, label in enumerate(labels)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return bundle, Data(train="rows.jsonl", eval="rows.jsonl")


def test_labels_of_rows_are_places_in_the_bundle_s_labels(tmp_path: Path) -> None:
    task, split = labelled_rows(*rows_for(tmp_path, "yes", "yes", "no"), tmp_path, [])
    assert task.labels == ("no", "yes")
    assert split.labels == [1, 1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ("no", "maybe"),
            "eval has the label 'maybe', which does not occur in the model's labels (no, yes)",
        ),
        ((None, None), "the eval split has no usable rows: 2 rows without a label"),
    ],
)
def test_rows_that_the_bundle_cannot_answer_are_refused_without_a_word_of_train(
    tmp_path: Path, labels: tuple[str | None, ...], message: str
) -> None:
    with pytest.raises(DataError) as raised:
        labelled_rows(*rows_for(tmp_path, *labels), tmp_path, [])
    assert str(raised.value) == f"rows.jsonl: {message}"


def test_only_eval_is_opened(tmp_path: Path) -> None:
    bundle, table = rows_for(tmp_path, "yes", "no")
    (tmp_path / "train.jsonl").write_text("no rows")
    found = labelled_rows(bundle, table.model_copy(update={"train": "train.jsonl"}), tmp_path, [])
    assert len(found[1]) == 2
