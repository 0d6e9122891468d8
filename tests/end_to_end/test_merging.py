"""The recipes of docs/how-to/merge-models.md run: a mean of fine-tunes is deployed, and teaches."""

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


def stages(number: int) -> list[Any]:
    """Return the stages of one of the page's recipes, with a brief ``validate``."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: list[Any] = yaml.safe_load(blocks[number])["stages"]
    for stage in found:
        if "validate" in stage:
            stage["validate"] |= QUICK
    return found


def test_the_mean_of_three_seeds_is_exported_and_measured(workshop: Workshop) -> None:
    finished = workshop.run(*stages(0))
    weights = {}
    for name in ("one", "two", "three", "merge"):
        weights[name] = load_file(finished[name].artifact.path("model.safetensors"))
    seeds = [weights[name]["classifier.weight"] for name in ("one", "two", "three")]
    assert not torch.equal(seeds[0], seeds[1])
    mean = torch.stack(seeds).mean(0)
    torch.testing.assert_close(weights["merge"]["classifier.weight"], mean)
    roles = {parent.role for parent in finished["merge"].artifact.manifest.parents}
    assert roles == {"model:one", "model:two", "model:three"}
    assert finished["export"].artifact.manifest.model["precision"] == "int8"


def test_the_mean_of_two_that_have_a_start_in_common_teaches_a_student(workshop: Workshop) -> None:
    student = {"distill": {"keep_layers": 1, "epochs": 1}}
    finished = workshop.run(*stages(1), student, {"merge": {"models": ["start", "two"]}})
    assert finished["distill"].artifact.kind is Kind.CHECKPOINT
    (parent,) = finished["distill"].artifact.manifest.parents
    assert parent.digest == finished["merge"].artifact.digest


def test_a_seed_of_another_recipe_is_taken_from_the_store(workshop: Workshop) -> None:
    workshop.run({"finetune": {"epochs": 1, "fit_head": True}}, seed=2)
    plan = workshop.open(*stages(0)).plan
    cached = [step.id for step in plan.steps() if step.cached]
    assert cached == ["model", "three"]
