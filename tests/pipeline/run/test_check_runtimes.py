"""What the targets run on is looked for before anything runs, if the plan makes a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from rarefy.pipeline.model.runtime import openvino
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run import checks
from rarefy.pipeline.run.plan.plan import Plan, Planned
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.terms.errors import ProviderError
from rarefy.stages.export import Export
from rarefy.stages.finetune import Finetune
from rarefy.stages.validate import Validate
from tests.conftest import Workshop

TARGETS = [{"provider": "openvino"}]


def test_a_target_s_provider_that_is_missing_is_said(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "installed", lambda: False)
    plan = workshop.open("finetune", "export", targets=TARGETS).plan
    with pytest.raises(ProviderError, match="OpenVINO is not installed"):
        checks.check_runtimes(plan, plan.steps())
    (said,) = checks.lacking(plan, plan.steps())
    assert said.endswith("; this machine cannot run the recipe")
    training = workshop.open("finetune", targets=TARGETS).plan
    assert checks.lacking(training, training.steps()) == []


def test_a_stage_that_exports_needs_onnx_runtime_whatever_the_target(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(openvino, "installed", lambda: True)
    plan = workshop.open("finetune", "export", targets=TARGETS).plan
    with pytest.raises(ProviderError, match="ONNX Runtime is not installed"):
        checks.check_runtimes(plan, plan.steps())
    training = workshop.open("finetune").plan
    assert checks.lacking(training, training.steps()) == []


def test_what_is_made_for_its_target_needs_no_device(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    checks.check_device("cuda", Export())
    checks.check_device("cuda", Validate())
    with pytest.raises(ProviderError, match="torch finds no CUDA device; use --device cpu"):
        checks.check_device("cuda", Finetune())
    plan = Plan(recipes.load(workshop.recipe("finetune")), workshop.store, "cuda")
    (said,) = checks.lacking(plan, plan.steps())
    assert said.startswith("torch finds no CUDA device")


def test_a_model_that_has_yet_to_be_scored_needs_the_device_too(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is a sweep's, whose branches are not scored on eval."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plan = workshop.open("finetune").plan
    plan.device = "cuda"
    made = Artifact(Path(), MagicMock(kind=Kind.CHECKPOINT), "0" * 64)
    steps = [Planned("finetune", Finetune(), Kind.CHECKPOINT, "f", made)]
    monkeypatch.setattr(checks.scoring, "missing", lambda *_: True)
    with pytest.raises(ProviderError, match="torch finds no CUDA device"):
        checks.check_runtimes(plan, steps)
    checks.check_runtimes(plan, steps, scored=False)
