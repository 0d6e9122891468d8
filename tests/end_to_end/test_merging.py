"""The recipe of docs/how-to/merge-models.md runs: a mean of fine-tunes is deployed, and teaches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from rarefy.pipeline.store.artifact import Kind
from tests.conftest import QUICK, Workshop

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "merge-models.md"


def stages(method: str) -> list[Any]:
    """Return the stages of the page's recipe with a method of merging, and all else quick."""
    block = re.search(r"^```yaml\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    found: list[Any] = yaml.safe_load(block[1])["stages"]
    for stage in found:
        if "validate" in stage:
            stage["validate"] |= QUICK
        if "merge" in stage:
            stage["merge"] |= {"method": method}
    return found


def test_the_mean_of_three_seeds_is_exported_and_measured(
    workshop: Workshop, known_times: None
) -> None:
    finished = workshop.run(*stages("soup"))
    seeds = ("one", "two", "three")
    weights = {}
    for name in (*seeds, "merge"):
        file = finished[name].artifact.path("model.safetensors")
        weights[name] = load_file(file)["classifier.weight"]
    assert not torch.equal(weights["one"], weights["two"])
    mean = torch.stack([weights[name] for name in seeds]).mean(0)
    torch.testing.assert_close(weights["merge"], mean)
    roles = {parent.role for parent in finished["merge"].artifact.manifest.parents}
    assert roles == {"models:one", "models:two", "models:three"}
    assert finished["export"].artifact.manifest.model["precision"] == "int8"


def test_the_mean_teaches_a_student_and_a_trained_seed_is_taken_from_the_store(
    workshop: Workshop,
) -> None:
    *finetunes, merge = stages("greedy")[:4]
    workshop.run(*finetunes[:1])
    chain = [*finetunes, merge, {"distill": {"keep_layers": 1, "epochs": 1}}]
    cached = {step.id for step in workshop.open(*chain).plan.steps() if step.cached}
    assert cached == {"model", "one"}
    finished = workshop.run(*chain)
    (parent,) = finished["distill"].artifact.manifest.parents
    assert parent.digest == finished["merge"].artifact.digest
    assert finished["merge"].artifact.kind is Kind.CHECKPOINT
