"""Which of a recipe's targets a bundle is made for, which can run it, and what int8 is there."""

from __future__ import annotations

from pydantic import Field

from rarefy.pipeline.model.runtime.providers import Products, is_on_cpu
from rarefy.pipeline.stage import Stage
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import Isa, Target


class Bundling(Stage):
    """Base of stages that make a bundle for one target."""

    target: str | None = Field(
        default=None, description="Name of a target; default: the recipe's first"
    )
    products: Products = Field(
        default="fused",
        description="Form of int8 matrix multiplications: ONNX Runtime's own operators, or "
        "pairs of QuantizeLinear and DequantizeLinear for other runtimes; TensorRT "
        "and OpenVINO always use the latter",
    )

    def chosen_target(self, targets: tuple[Target, ...]) -> Target:
        """Return the target that the bundle is for. Raises RecipeError if there is none."""
        if self.target is None:
            return targets[0]
        for target in targets:
            if target.name == self.target:
                return target
        names = ", ".join(target.name for target in targets)
        raise RecipeError(f"export.target: the recipe has no target {self.target!r}, only {names}")

    def is_fused(self, targets: tuple[Target, ...]) -> bool:
        """Return whether the bundle gets operators that only ONNX Runtime has."""
        return self.chosen_target(targets).provider == "cpu" and self.products == "fused"

    def check_targets(self, targets: tuple[Target, ...]) -> None:
        """Raise RecipeError if a target refuses the bundle in int8, or its CPUs may.

        Operators that only ONNX Runtime has are those of its provider for CPUs.
        """
        if self.is_fused(targets):
            _check_other_providers(targets)
        chosen = self.chosen_target(targets)
        if chosen.isa != "vnni":
            return
        for target in targets:
            if is_on_cpu(target.provider) and target.isa != "vnni":
                raise RecipeError(
                    f"the bundle is for {chosen.name!r}, whose isa is vnni, and CPUs of "
                    f"{target.name!r} may reject it; write export: {{target: {target.name}}}, or "
                    "the same isa for both"
                )


def _check_other_providers(targets: tuple[Target, ...]) -> None:
    """Raise RecipeError for the first target that is not ONNX Runtime on CPUs."""
    for target in targets:
        if target.provider == "openvino":
            raise RecipeError(
                f"the target {target.name!r} runs in OpenVINO, which has no operators of ONNX "
                "Runtime's own; write quantize: {mode: static} and export: {products: qdq}"
            )
        if target.provider != "cpu":
            raise RecipeError(
                f"the bundle has int8 operators for CPUs, which the target {target.name!r} does "
                "not have; write a recipe of its own for it"
            )


def narrowest(targets: tuple[Target, ...]) -> Isa:
    """Return ``vnni`` if that is what all of the recipe's CPUs have: the width to be measured."""
    wide = [target.isa == "vnni" for target in targets if target.provider in ("cpu", "openvino")]
    return "vnni" if wide and all(wide) else "avx2"


def symmetric(targets: tuple[Target, ...]) -> bool:
    """Return whether all of the recipe's targets that int8 is for have zero as the zero point."""
    int8 = {target.provider for target in targets} - {"cuda"}  # which has fp16 only
    return int8 == {"tensorrt"}
