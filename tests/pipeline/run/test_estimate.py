"""About how long a step will take here is known before its first run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from rarefy.flows.workloads import workload
from rarefy.pipeline.run import estimate
from tests.conftest import Workshop


def seconds(workshop: Workshop, *stages: Any, **recipe: Any) -> dict[str, float]:
    """Return the estimates for a recipe on a machine of a given speed."""
    plan = workshop.open(*stages, **recipe).plan
    estimate.of_steps(plan, plan.steps(), workload)  # times the machine, if that has work to do
    for note in (plan.store.root / "notes").glob("product-*.json"):
        note.write_text(json.dumps({"speed": 1e6}))
    return estimate.of_steps(plan, plan.steps(), workload).seconds


def test_training_takes_time_in_proportion_to_its_epochs(workshop: Workshop) -> None:
    one = seconds(workshop, {"finetune": {"epochs": 1}})["finetune"] - estimate.START
    four = seconds(workshop, {"finetune": {"epochs": 4}})["finetune"] - estimate.START
    assert one > 0
    assert four == pytest.approx(4 * one)


def test_training_takes_six_operations_for_each_weight_and_token(workshop: Workshop) -> None:
    stage = {"finetune": {"epochs": 2}}
    plan = workshop.open(stage).plan
    time = seconds(workshop, stage)["finetune"] - estimate.START
    lengths = [2 + len(text.encode()) / estimate.BYTES for text in plan.rows["train"].texts]
    weights = estimate.layer_weights(plan.located.weights, plan.located.config)
    operations = 6 * weights * sum(lengths) * 2
    cores = min(plan.threads, estimate.machine.fingerprint()["cores"]["physical"])
    speeds = [estimate.EFFICIENCY * cores * 1e6 * factor for factor in (1, estimate.BF16)]
    assert time == pytest.approx(operations / speeds[0]) or (
        time == pytest.approx(operations / speeds[1])
    )


def test_a_student_of_half_the_layers_takes_half_the_time(workshop: Workshop) -> None:
    head: dict[str, Any] = {"finetune": {"epochs": 1}}
    student = {"distill": {"teacher": "finetune", "epochs": 1}}
    half = {"distill": {"teacher": "finetune", "keep_layers": 1, "epochs": 1}}
    whole_time = seconds(workshop, head, student)["distill"] - estimate.START
    half_time = seconds(workshop, head, half)["distill"] - estimate.START
    answers = 1  # passes of the teacher, beside three of the student
    assert half_time / whole_time == pytest.approx((answers + 3 / 2) / (answers + 3))


def test_what_is_cached_or_of_unknown_work_has_no_estimate(workshop: Workshop) -> None:
    assert "head" not in seconds(workshop, "quick:Head")
    workshop.run("quick:Head")
    assert seconds(workshop, "quick:Head") == {}


def test_students_of_texts_of_unknown_number_have_no_estimate(workshop: Workshop) -> None:
    (workshop.folder / "more.jsonl").write_text('{"text": "good"}\n')
    stages = [
        {"finetune": {"epochs": 1}},
        {"augment": {"texts": [{"file": "more.jsonl"}]}},
        {"distill": {"transfer": "augment", "keep_layers": 1}},
    ]
    assert list(seconds(workshop, *stages)) == ["finetune"]


def test_the_machine_is_timed_once(workshop: Workshop) -> None:
    plan = workshop.open({"finetune": {"epochs": 1}}).plan
    first = estimate.of_steps(plan, plan.steps(), workload)
    assert estimate.of_steps(plan, plan.steps(), workload) == first
    assert len(list((plan.store.root / "notes").glob("product-*.json"))) == 1


def test_the_vocabulary_is_looked_up_not_multiplied(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {
        "embeddings.weight": np.zeros((100, 8), np.float32),
        "layer.weight": np.zeros((16, 8), np.float32),
        "layer.bias": np.zeros(16, np.float32),
    }
    save_file(tensors, path)
    assert estimate.layer_weights([path], {"vocab_size": 100}) == 16 * 8
    shared = {"vocab_size": 100, "num_hidden_layers": 12, "num_hidden_groups": 1}
    assert estimate.layer_weights([path], shared) == 12 * 16 * 8


def test_weights_that_cannot_be_read_are_not_counted(tmp_path) -> None:
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes(b"no weights")
    assert estimate.layer_weights([damaged], {}) is None
    assert estimate.layer_weights([tmp_path / "pytorch_model.bin"], {}) is None


def test_a_core_does_some_million_operations_a_second() -> None:
    assert estimate.product_speed() > 1e6
