"""Whether this machine can run the bundles of a plan: ONNX Runtime, and the targets' providers."""

from __future__ import annotations

from rarefy.pipeline.model.runtime import onnx_runtime
from rarefy.pipeline.model.runtime import providers as runtimes
from rarefy.pipeline.run import scoring
from rarefy.pipeline.run.plan.plan import Plan, Planned
from rarefy.pipeline.stage import Stage
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ProviderError

MEASURED = (Kind.BUNDLE, Kind.REPORT)
"""What is made for the targets, and checked by running it."""


def check(plan: Plan, steps: list[Planned], *, scored: bool = True) -> None:
    """Raise ProviderError if this machine lacks what a step or a target runs on.

    ``scored``: whether steps are scored on eval, which branches of a sweep are not.
    """
    for step in steps:
        if step.artifact is None or (scored and scoring.missing(plan, step.artifact)):
            check_device(plan.device, step.stage)
    if any("onnxruntime" in step.stage.libraries for step in steps):
        onnx_runtime.check_installed()
    if any(step.kind in MEASURED for step in steps):
        for target in plan.loaded.recipe.targets:
            runtimes.check_available(target.provider)


def check_device(device: str, stage: Stage) -> None:
    """Raise ProviderError if a stage would train or answer on a device that is not there.

    Bundles are made and measured on their targets, whatever the device.
    """
    if device == "cuda" and Kind.BUNDLE not in (stage.produces, *stage.consumes):
        import torch

        if not torch.cuda.is_available():
            raise ProviderError("torch finds no CUDA device; use --device cpu")


def lacking(plan: Plan, steps: list[Planned]) -> list[str]:
    """Return why a run would be refused here; empty if it would not be.

    A plan may be for another machine, so this is a warning there.
    """
    try:
        check(plan, steps)
    except ProviderError as error:
        return [f"{error}; this machine cannot run the recipe"]
    return []
