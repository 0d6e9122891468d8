"""What the targets run on is looked for before anything runs, if the plan makes a bundle."""

from __future__ import annotations

import sys

import pytest

from pipeline.model import openvino_session
from pipeline.run import providers
from pipeline.terms.errors import ProviderError
from tests.conftest import Workshop

TARGETS = [{"provider": "openvino"}]


def test_a_target_s_provider_that_is_missing_is_said(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_session, "installed", lambda: False)
    plan = workshop.open("finetune", "export", targets=TARGETS).plan
    with pytest.raises(ProviderError, match="OpenVINO is not installed"):
        providers.check(plan, plan.steps())
    (said,) = providers.lacking(plan, plan.steps())
    assert said.endswith("; this machine cannot run the recipe")
    training = workshop.open("finetune", targets=TARGETS).plan
    assert providers.lacking(training, training.steps()) == []


def test_a_stage_that_exports_needs_onnx_runtime_whatever_the_target(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(openvino_session, "installed", lambda: True)
    plan = workshop.open("finetune", "export", targets=TARGETS).plan
    with pytest.raises(ProviderError, match="ONNX Runtime is not installed"):
        providers.check(plan, plan.steps())
    training = workshop.open("finetune").plan
    assert providers.lacking(training, training.steps()) == []
