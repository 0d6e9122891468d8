"""Measurements for tests to judge."""

from __future__ import annotations

import pytest

from rarefy.pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from tests.pipeline.verdict.measured import ROWS, answers_right, calls_of


@pytest.fixture
def measurements():
    models = {
        "candidate": ModelMeasurement(
            digest="c", size=20_000_000, parameters=5_000_000, memory=60_000_000,
            answers=answers_right(0.90),
        ),
        "finetune": ModelMeasurement(
            digest="f", size=90_000_000, parameters=22_000_000, memory=None,
            answers=answers_right(0.91),
        ),
    }  # fmt: skip
    samples = {"candidate": calls_of(1.0), "finetune": calls_of(5.0)}
    return Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * ROWS,
        models=models,
        aliases={"quantize": "finetune"},
        latency={"cpu": Latency(samples=samples, provider="cpu")},
    )
