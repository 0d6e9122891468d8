"""Validate's measurements are read back unchanged."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements, ModelMeasurement

PACES = {"a": 0.0, "b": 1.0}


def measured(**changes) -> Measurements:
    ours = ModelMeasurement(digest="c", size=1, answers=[[0.9, 0.1]])
    theirs = ModelMeasurement(digest="t", size=2, answers=[[0.8, 0.2]])
    fields = {
        "machine": {},
        "task": "text-classification",
        "labels": ["a", "b"],
        "truth": [0],
        "models": {CANDIDATE: ours, "finetune": theirs},
        "latency": {},
        "aliases": {"quantize": "finetune"},
    }
    return Measurements(**fields | changes)


def test_nan_survives_json_that_every_parser_reads():
    broken = ModelMeasurement(digest="c", size=1, answers=[[math.nan, math.inf]])
    text = measured(models={CANDIDATE: broken}).model_dump_json(by_alias=True)
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    first, second = Measurements.model_validate_json(text).models[CANDIDATE].answers[0]
    assert math.isnan(first)
    assert second == math.inf


def test_another_schema_is_refused():
    values = json.loads(measured().model_dump_json(by_alias=True))
    values["schema"] = "rarefy.measurements/3"
    with pytest.raises(ValidationError, match=r"rarefy\.measurements/4"):
        Measurements.model_validate(values)


def test_from_text_to_logits_is_tokenizer_and_model():
    found = Latency(samples={"m": [[1.0, 2.0]]}, tokenizer={"m": [[0.25, 0.5]]})
    assert found.calls("m", whole=True) == [[1.25, 2.5]]
    assert Latency(samples={"m": [[1.0]]}).calls("m", whole=True) == []


def test_a_stage_stands_for_the_model_of_its_weights():
    found = measured()
    assert found.references == ["finetune"]
    assert found.name_of("quantize") == found.name_of("finetune") == "finetune"
    assert found.name_of("prune") is None


def test_a_target_has_its_own_answers_where_another_provider_gives_them():
    found = measured(elsewhere={"gpu": [[0.4, 0.6]]})
    assert found.on("cpu") is found
    assert found.on("gpu").models[CANDIDATE].answers == [[0.4, 0.6]]
    assert found.on("gpu").models["finetune"] == found.models["finetune"]


def test_targets_of_one_provider_share_its_answers_and_some_may_not_be_timed_yet():
    paces = {"cpu": Latency(samples={}), "fast": Latency(samples={}, provider="openvino")}
    found = measured(elsewhere={"other": [[0.4, 0.6]]}, latency=paces)
    assert found.on("cpu") is found
    assert found.on("fast") is found
    timed = {**paces, "other": Latency(samples={}, provider="openvino")}
    found = measured(elsewhere={"other": [[0.4, 0.6]]}, latency=timed)
    assert found.on("fast").models[CANDIDATE].answers == [[0.4, 0.6]]
    assert found.on("cpu") is found


def test_each_look_at_the_data_makes_the_intervals_wider():
    draw = np.random.default_rng(0)
    calls = {name: draw.lognormal(pace, 0.3, (5, 60)).tolist() for name, pace in PACES.items()}
    once, often = (Latency(samples=calls, looks=looks) for looks in (1, 20))
    for found, wider in (
        (once.percentile("a", 50), often.percentile("a", 50)),
        (once.ratio("b", "a"), often.ratio("b", "a")),
    ):
        assert found.value == wider.value
        assert wider.low < found.low < found.high < wider.high


def test_a_reference_may_be_the_truth_itself():
    found = measured(aliases={"model": "finetune"})
    assert not any(map(found.is_truth, ("finetune", "baseline", "candidate")))
    found = measured(aliases={"model": "finetune"}, unlabelled=True)
    assert [found.is_truth(name) for name in ("finetune", "baseline")] == [True, False]


def test_a_part_of_some_sentences_has_their_words_alone():
    """Of three sentences with one, two and three words, the first and the last."""
    truth = [{"tags": [0], "names": ["O", "B-A"]}, {"tags": [0, 1]}, {"tags": [1, 0, 0]}]
    answers = [[float(word), 0.0] for word in range(6)]
    model = ModelMeasurement(digest="d", size=1, answers=answers)
    whole = Measurements(
        machine={}, task="token-classification", labels=["O", "B-A"], truth=truth, latency={},
        models={"candidate": model, "other": model}, groups=[0, 1, 0], columns={"c": ["x"] * 3},
    )  # fmt: skip
    part = whole.part([1, 2], ["candidate"])
    assert part.truth == [{"tags": [0, 1], "names": ["O", "B-A"]}, {"tags": [1, 0, 0]}]
    assert [row[0] for row in part.models["candidate"].answers] == [1, 2, 3, 4, 5]
    assert (list(part.models), part.groups, part.columns) == (["candidate"], [1, 0], {})
    assert len(whole.models["candidate"].answers) == 6
