"""A regression on a frozen model's embeddings learns what they show, and is never timed."""

from __future__ import annotations

import numpy as np

from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement
from rarefy.pipeline.measure.predictions import files, probe
from rarefy.pipeline.report import facts
from tests.models import TASK
from tests.pipeline.measure.predictions.test_linear_model import splits


def test_it_learns_from_embeddings_of_a_model_that_stays_as_it_is(tiny_encoder, tmp_path):
    train, dev, evaluated = splits(200)
    before = {path: path.read_bytes() for path in tiny_encoder.directory.iterdir()}
    found = probe.measure(TASK, tiny_encoder.directory, train, dev, evaluated, seed=0)
    assert {path: path.read_bytes() for path in tiny_encoder.directory.iterdir()} == before
    answers = np.array(found.answers)
    assert answers.shape == (60, 2)
    assert (answers.argmax(axis=1) == np.array(evaluated.labels)).mean() > 0.8
    assert (found.rows, found.milliseconds) == (200, [])
    model = ModelMeasurement(digest="0" * 64, size=1, answers=found.answers)
    measured = Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=evaluated.labels,
        models={"candidate": model},
        latency={},
        probe=found,
    )
    files.save(measured, tmp_path)
    again = files.load(tmp_path)
    assert again.probe.answers == found.answers
    line = facts.probe_line(again)
    assert line.endswith("to 200 rows; the candidate differs by +0.00 points [−6.02, +6.02]")


def test_of_many_rows_some_are_drawn(tiny_encoder, monkeypatch):
    monkeypatch.setattr(probe, "MOST", 50)
    train, dev, evaluated = splits(200)
    assert probe.measure(TASK, tiny_encoder.directory, train, dev, evaluated, seed=0).rows == 50
