from __future__ import annotations

from rarefy.pipeline.sweep import scoring
from tests.conftest import Workshop


def test_a_model_is_scored_on_the_development_rows_once(workshop: Workshop) -> None:
    run = workshop.open("quick:Head", data=DATA)
    run.scored = False
    run.plan.steps()
    run.execute("model")
    head = run.execute("head").artifact
    assert head.manifest is not None

    name, score = scoring.on_dev(run.plan, head, run.check) or ("", None)

    assert name == "accuracy"
    assert score is not None
    assert 0 <= score.low <= score.value <= score.high <= 1
    kept = list((workshop.store.root / "notes").glob("score-*.json"))
    assert len(kept) == 1, "the eval rows were not asked"
    assert scoring.on_dev(run.plan, head, run.check) == (name, score)


def test_the_score_is_that_of_the_development_rows_alone(workshop: Workshop) -> None:
    """Other eval rows change nothing."""
    first = workshop.open("quick:Head", data=DATA)
    first.scored = False
    first.execute("model")
    before = scoring.on_dev(first.plan, first.execute("head").artifact, first.check)
    workshop.write_rows("eval.jsonl", [{"text": "good", "label": "positive"}] * 9)

    second = workshop.open("quick:Head", data=DATA)
    second.scored = False
    second.execute("model")
    assert scoring.on_dev(second.plan, second.execute("head").artifact, second.check) == before


def test_what_is_no_model_has_no_score(workshop: Workshop) -> None:
    run = workshop.open("quick:Head")
    run.scored = False
    assert scoring.on_dev(run.plan, run.execute("model").artifact, run.check) is None


DATA = {"train": "train.jsonl", "eval": "eval.jsonl", "dev": "25 %"}
