"""Which of a recipe's targets a bundle is made for, and which of the others can run it."""

from __future__ import annotations

from pydantic import Field

from exporters.providers import Products
from pipeline.model.runtime import is_on_cpu
from pipeline.stage import Stage
from pipeline.terms.errors import RecipeError
from pipeline.terms.vocabulary import Target


class Bundling(Stage):
    """Base of stages that make a bundle for one target."""

    target: str | None = Field(
        default=None, description="name of a target; default: the recipe's first"
    )
    products: Products = Field(
        default="fused",
        description="int8 products as ONNX Runtime's own operators, or as pairs of QuantizeLinear "
        "and DequantizeLinear for other runtimes; for TensorRT and OpenVINO always the latter",
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
                    f"{target.name!r} may refuse it; write export: {{target: {target.name}}}, or "
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
