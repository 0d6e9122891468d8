"""What is missing for a budget is said in one sentence."""

from __future__ import annotations

import pytest

from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.verdict import lookup


def measured(**models: ModelMeasurement) -> Measurements:
    return Measurements(
        machine={},
        task="text-classification",
        labels=["no", "yes"],
        truth=[0, 1],
        models=models,
        latency={},
        aliases={"twin": "teacher"},
    )


def model(*answers: list[float], **facts: object) -> ModelMeasurement:
    return ModelMeasurement.model_validate(
        {"digest": "d", "size": 8, "answers": list(answers), **facts}
    )


WHOLE = measured(
    candidate=model([0.9, 0.1], [0.2, 0.8]), teacher=model([1.0, 0.0], [0.0, 1.0], memory=5)
)


def test_a_stage_is_found_by_its_own_name_and_by_that_of_equal_weights() -> None:
    for name in ("teacher", "twin"):
        budget = Budget.model_validate({"metric": "size", "min_shrink": 2, "against": name})
        assert lookup.against(budget, WHOLE) == "teacher"
    assert lookup.first_reference(Budget(metric="kl", max=1), WHOLE) == "teacher"
    assert lookup.amount(WHOLE, "teacher", "memory") == 5
    assert lookup.answers(WHOLE, "candidate").shape == (2, 2)


def test_what_is_missing_is_named() -> None:
    budget = Budget.model_validate({"metric": "size", "min_shrink": 2, "against": "other"})
    with pytest.raises(lookup.MissingError, match="'other' was not measured as a reference"):
        lookup.against(budget, WHOLE)
    with pytest.raises(lookup.MissingError, match="kl needs a reference model"):
        lookup.first_reference(Budget(metric="kl", max=1), measured(candidate=model()))
    with pytest.raises(lookup.MissingError, match="memory of candidate was not measured"):
        lookup.amount(WHOLE, "candidate", "memory")
    with pytest.raises(lookup.MissingError, match="predictions for 1 of 2 rows"):
        lookup.answers(measured(candidate=model([0.9, 0.1])), "candidate")
    with pytest.raises(lookup.MissingError, match="predicted NaN or infinity on 1 of 2 rows"):
        lookup.answers(measured(candidate=model([0.9, 0.1], [float("nan"), 0])), "candidate")
    with pytest.raises(lookup.MissingError, match="target 'gpu' was not timed; timed: none"):
        lookup.timed(WHOLE, "gpu")
