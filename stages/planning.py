"""What a quantization plan depends on besides the model, and which stages it is not for."""

from __future__ import annotations

from pipeline.stage import Stage
from pipeline.terms.vocabulary import Isa, Target


def narrowest(targets: tuple[Target, ...]) -> Isa:
    """Return ``vnni`` if that is what all of the recipe's CPUs have: the width to be measured."""
    wide = [target.isa == "vnni" for target in targets if target.provider in ("cpu", "openvino")]
    return "vnni" if wide and all(wide) else "avx2"


def symmetric(targets: tuple[Target, ...]) -> bool:
    """Return whether all of the recipe's targets that int8 is for have zero as the zero point."""
    int8 = {target.provider for target in targets} - {"cuda"}  # which has fp16 only
    return int8 == {"tensorrt"}


def needs_no_training(planner: Stage) -> str | None:
    """Return why a plan has nothing to be trained for, or None: only int8 rounds enough."""
    if getattr(planner, "precision", None) == "fp16":
        return "fp16 needs no training; leave it out, or write quantize: {precision: int8}"
    return None


def is_final(planner: Stage) -> str | None:
    """Return why weights may not change after a plan, or None: in int4 they are the plan."""
    if getattr(planner, "weights", None) == "int4":
        return (
            "weights in int4 are rounded for the weights as they are; move 'quantize' behind it, "
            "or write quantize: {weights: int8}"
        )
    return None
