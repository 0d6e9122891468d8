"""The answers beside the JSON: exact, once, and refused if they belong to other measurements."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

from rarefy.pipeline.measure.measurements import (
    CANDIDATE,
    Linear,
    Measurements,
    ModelMeasurement,
    Predicted,
)
from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.measure.predictions import predict as accuracy

ROWS, LABELS = 2000, 20


def measured(seed: int = 0, **changes) -> Measurements:
    draw = np.random.default_rng(seed)

    def table() -> list[list[float]]:
        return accuracy.as_table(draw.dirichlet(np.full(LABELS, 0.1), ROWS))

    fields = {
        "machine": {},
        "task": "text-classification",
        "labels": [str(at) for at in range(LABELS)],
        "truth": [0] * ROWS,
        "models": {
            name: ModelMeasurement(digest=name, size=1, answers=table())
            for name in (CANDIDATE, "s3://bucket/store#production")
        },
        "predicted": {"label": Predicted(digest="label", answers=table())},
        "elsewhere": {"gpu": table()},
        "linear": Linear(size=1, seconds=1, rows=1, milliseconds=[0.1], answers=table()),
        "latency": {},
    }
    return Measurements(**fields | changes)


def test_whoever_may_read_the_numbers_may_read_the_answers(tmp_path):
    answers.save(measured(), tmp_path)
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_answers_are_read_back_exactly(tmp_path):
    given = measured()
    assert answers.save(given, tmp_path) == {
        "measurements.json": "measurements",
        "answers.safetensors": "answers",
    }
    assert answers.load(tmp_path) == given


def test_they_are_not_in_the_json_and_take_half_of_its_space(tmp_path):
    given = measured()
    answers.save(given, tmp_path)
    inline = len(given.model_dump_json())
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["measurements.json"] < inline / 20
    assert sum(sizes.values()) < inline / 2


def test_numbers_that_are_not_rounded_or_not_numbers_stay_what_they_are(tmp_path):
    """A plug-in may write any; a broken model answers NaN."""
    odd = [[1 / 3, math.nan], [math.inf, 1e-12]]
    models = {CANDIDATE: ModelMeasurement(digest="c", size=1, answers=odd)}
    answers.save(measured(models=models, elsewhere={}), tmp_path)
    found = answers.load(tmp_path).models[CANDIDATE].answers
    np.testing.assert_array_equal(found, odd)


@pytest.mark.parametrize("scale", [1e-7, 1e-40])
def test_small_answers_keep_their_order(tmp_path, scale):
    """Targets of a regression may have any unit."""
    given = np.random.default_rng(0).permutation(1000).astype(float)[:, None] * scale / 1000
    table = accuracy.as_table(given)
    assert np.argsort(np.array(table), axis=0).tolist() == np.argsort(given, axis=0).tolist()
    models = {CANDIDATE: ModelMeasurement(digest="c", size=1, answers=table)}
    answers.save(measured(models=models, elsewhere={}), tmp_path)
    assert answers.load(tmp_path).models[CANDIDATE].answers == table


def test_equal_answers_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        answers.save(measured(), tmp_path / name)
    for file in ("measurements.json", "answers.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_answers_that_are_missing_or_of_another_run_are_said(tmp_path):
    (tmp_path / "other").mkdir()
    answers.save(measured(), tmp_path)
    answers.save(measured(seed=1), tmp_path / "other")
    shutil.copyfile(tmp_path / "other/answers.safetensors", tmp_path / "answers.safetensors")
    with pytest.raises(ValueError, match=r"^answers\.safetensors belongs to other measurements$"):
        answers.load(tmp_path)
    (tmp_path / "answers.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is missing next to the JSON file; copy both$"):
        answers.load(tmp_path)
