"""A model's accuracy on the eval split, measured only when needed."""

from __future__ import annotations

import json

import pytest

from rarefy.pipeline.measure.predictions import predict as accuracy
from rarefy.pipeline.terms.errors import IntegrityError, RarefyError
from tests.conftest import execute
from tests.pipeline.run.chains import flip


def test_one_changed_byte_of_eval_measures_anew_and_trains_nothing(workshop):
    """The file's size and modification time do not change."""
    workshop.run("quick:Head")
    before = workshop.run("quick:Head")["head"]
    assert workshop.ran() == ["head"]
    flip(workshop.folder / "eval.jsonl", b'"negative"', b'"positive"')
    after = workshop.run("quick:Head")["head"]
    assert after.artifact.digest == before.artifact.digest
    assert workshop.ran() == ["head"]
    (old,) = [m for m in before.scores if m.name == "accuracy"]
    (new,) = [m for m in after.scores if m.name == "accuracy"]
    assert abs(old.value - new.value) == pytest.approx(1 / 12)


def test_rows_of_a_group_are_drawn_together_in_the_ledger_too(workshop):
    names = {"train": "train.jsonl", "eval": "eval.jsonl"}
    (alone,) = workshop.run("quick:Head", data=names)["head"].scores[:1]
    for name in names.values():
        path = workshop.folder / name
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        users = [row | {"user": f"{name} {at // 4}"} for at, row in enumerate(rows)]
        workshop.write_rows(name, users)
    (grouped,) = workshop.run("quick:Head", data=names | {"group": "user"})["head"].scores[:1]
    assert alone.name == grouped.name == "accuracy"
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.high - grouped.low > 1.2 * (alone.high - alone.low)


@pytest.mark.parametrize(("given", "used"), [(3, 3), (1, 2)])
def test_a_bundle_is_scored_with_all_threads_that_the_run_has(workshop, monkeypatch, given, used):
    """Answers are not timed here, so the other cores need not wait."""
    run = workshop.open(
        {"finetune": {"epochs": 1}}, "export", targets=[{"name": "cpu", "threads": 2}]
    )
    run.plan.threads = given
    asked, whole = [], accuracy.bundle_answers

    def noted(*arguments, **named):
        asked.append(named["threads"])
        return whole(*arguments, **named)

    monkeypatch.setattr(accuracy, "bundle_answers", noted)
    execute(run)
    assert asked == [used]


def test_a_model_that_answers_nan_is_no_result(workshop):
    with pytest.raises(RarefyError, match="the model outputs NaN for 12 of 12 predictions"):
        workshop.run({"quick:Head": {"fill": "nan"}})


def test_a_flipped_bit_is_caught_before_a_cached_model_is_scored_again(workshop):
    head = workshop.run("quick:Head")["head"].artifact
    weights = head.path("model.safetensors")
    flip(weights, weights.read_bytes()[-4:], b"\x00\x00\x80?")
    flip(workshop.folder / "eval.jsonl", b'"negative"', b'"positive"')
    with pytest.raises(IntegrityError, match=r"\(head\) is damaged: model\.safetensors"):
        workshop.run("quick:Head")
