"""An order of stages that cannot work is refused, with the usual fix."""

from __future__ import annotations

import pytest

from rarefy.pipeline.terms.errors import RecipeError
from tests.conftest import Workshop


@pytest.fixture
def workshop(empty_workshop: Workshop) -> Workshop:
    """Nothing has been imported yet."""
    return empty_workshop


INJECT = {"inject": {"facts": "train.jsonl"}}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            ["export"],
            "'model' makes an encoder; put 'finetune' before it; a head of its own is used if",
        ),
        (["finetune", "merge"], "takes an adapter, but 'finetune' makes a checkpoint; put 'adapt'"),
        (["quantize"], "but 'model' makes an encoder; put 'finetune' before it"),
        (
            ["finetune", "adapt", {"prune": {"remove_heads": "25 %"}}],
            "makes an adapter; put 'merge' between them",
        ),
        (["finetune", "validate"], "takes a bundle.*makes a checkpoint; put 'export' before it"),
        (
            ["finetune", "export", "finetune"],
            r"stages\[2\]\.finetune: takes .* but 'export' makes a bundle",
        ),
        (
            ["finetune", "adapt", "merge", "export", {"validate": {"models": ["adapt"]}}],
            r"stages\[4\]\.validate: reference:adapt: 'adapt' makes an adapter, not a checkpoint",
        ),
        (
            [INJECT, "finetune", {"distill": {"keep_layers": 1, "teacher": "inject"}}],
            r"stages\[2\]\.distill: teacher: 'inject' makes an encoder, not a model with a head",
        ),
        (
            [INJECT, "finetune", {"label": {"teachers": ["inject"]}}],
            "label: teacher:inject: 'inject' makes an encoder, not a model with a head",
        ),
        (
            ["finetune", "export", {"from": "finetune", "adapt": {"teacher": "export"}}],
            "adapt: teacher: 'export' makes a bundle, not a model with a head",
        ),
    ],
)
def test_an_order_that_cannot_work_is_refused_before_anything_runs(workshop, stages, message):
    with pytest.raises(RecipeError, match=message) as caught:
        workshop.open(*stages).plan.steps()
    assert "trial.yaml:" in str(caught.value)
    assert workshop.store.digests() == []
