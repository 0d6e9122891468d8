"""Export: turn a checkpoint into an ONNX bundle that runs without PyTorch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from exporters import providers
from pipeline.model.runtime import is_on_cpu
from pipeline.stage import Asked, Context, Draft, Quantization, Stage
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import RecipeError
from pipeline.terms.versions import version
from pipeline.terms.vocabulary import Target
from stages.parameters import EXPORTING
from stages.planning import symmetric


class Export(Stage):
    """Write the model as ONNX for a target and apply its quantization plan.

    ``torch.onnx.export`` traces the graph. rarefy's passes then make it small and fast: they
    build padding masks in four nodes, fold the attention scale into the weights, keep relative
    positions as a table, compute the last layer for the first token only, cut position embeddings
    to ``max_length``, make each attention one operator, and use int8 embeddings and integer matrix
    products where the plan says so. Before and after quantization, the logits are compared with
    PyTorch's on real rows, padded and unpadded, and on rows of up to 2048 tokens. At the end, the
    operators are counted; `rarefy artifact show` and the bundle's README say how many places each
    pass changed. A difference beyond the tolerance is an error, which names the first pass that is
    wrong, and so are operators that differ from what the plan demands. The rows are development
    rows, and three of them are in the bundle word for word, unless ``samples`` is none.
    """

    name: ClassVar[str] = "export"
    version: ClassVar[int] = 31
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.BUNDLE
    reads: ClassVar[frozenset[str]] = frozenset({"dev"})
    libraries: ClassVar[tuple[str, ...]] = EXPORTING
    quantization: ClassVar[Quantization] = "keeps"

    target: str | None = Field(
        default=None, description="name of a target; default: the recipe's first"
    )
    products: providers.Products = Field(
        default="fused",
        description="int8 products as ONNX Runtime's own operators, or as pairs of QuantizeLinear "
        "and DequantizeLinear for other runtimes; for TensorRT and OpenVINO always the latter",
    )
    samples: Literal["dev", "none"] = Field(
        default="dev", description="rows that the bundle contains word for word, with its answers"
    )

    def misfit(self, maker: Stage, targets: tuple[Target, ...]) -> str | None:
        """Refuse a plan that the target's provider cannot have, or has only to be slower."""
        facts = ("precision", "mode", "embeddings", "weights")
        precision, mode, *widths = (getattr(maker, name, None) for name in facts)
        target = self._target(targets)
        given = (precision, mode, target.provider, self.products, "int4" in widths)
        if refused := providers.refusal(*given):
            return refused
        static = precision == "int8" and mode == "static"
        if static and target.provider == "tensorrt" and not symmetric(targets):
            return (
                "the plan has ranges for CPUs too, and TensorRT would get wider ones, as wide "
                "below zero as above it, with which no damage is measured; write a recipe of its "
                f"own for {target.name!r}"
            )
        return None

    def fuses(self, targets: tuple[Target, ...]) -> bool:
        """Return whether the bundle gets operators that only ONNX Runtime has."""
        return self._target(targets).provider == "cpu" and self.products == "fused"

    def refused_by(self, targets: tuple[Target, ...]) -> str | None:
        """Return why a target refuses the bundle in int8, or its CPUs may; None if none does.

        Operators that only ONNX Runtime has are those of its provider for CPUs.
        """
        other = next((each for each in targets if each.provider != "cpu"), None)
        if other is not None and self.fuses(targets):
            if other.provider == "openvino":
                return (
                    f"the target {other.name!r} runs in OpenVINO, which has no operators of ONNX "
                    "Runtime's own; write quantize: {mode: static} and export: {products: qdq}"
                )
            return (
                f"the bundle has int8 operators for CPUs, which the target {other.name!r} does not "
                "have; write a recipe of its own for it"
            )
        own = self._target(targets)
        cpus = [each for each in targets if is_on_cpu(each.provider)]
        narrow = [each.name for each in cpus if each.isa != "vnni"]
        if own.isa != "vnni" or not narrow:
            return None
        return (
            f"the bundle is for {own.name!r}, whose isa is vnni, and CPUs of {narrow[0]!r} may "
            f"refuse it; write export: {{target: {narrow[0]}}}, or the same isa for both"
        )

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return what determines the graph (provider, the width of weights), session and check."""
        target = self._target(asked.targets)
        checked = {"openvino": version("openvino")} if target.provider == "openvino" else {}
        return {
            "provider": target.provider,
            "threads": target.threads,
            "isa": target.isa,
            **checked,
        }

    def run(self, context: Context, model: Artifact) -> Draft:
        """Build the bundle in its deployable form."""
        from exporters.build import build

        target = self._target(context.targets)
        info = build(
            model.directory,
            context.output,
            task=context.task,
            split=context.split("dev"),
            form="deploy",
            target_provider=target.provider,
            threads=target.threads,
            isa=target.isa,
            products=self.products,
            samples=self.samples == "dev",
            progress=context.progress,
        )
        rows = info.parity.rows
        metrics = (
            Metric(name="parity", split="dev", value=info.parity.max_difference, n=rows),
            Metric(name="agreement", split="dev", value=info.parity.agreement, n=rows),
            Metric(name="integer_matmuls", value=info.integer_matmuls),
            Metric(name="graph_bytes", value=info.size),
        )
        facts = info.model | {"operators": info.operators, "passes": info.passes}
        return Draft(roles=info.roles, model=facts, metrics=metrics)

    def _target(self, targets: tuple[Target, ...]) -> Target:
        if self.target is None:
            return targets[0]
        for target in targets:
            if target.name == self.target:
                return target
        known = ", ".join(target.name for target in targets)
        raise RecipeError(f"export.target: the recipe has no target {self.target!r}, only {known}")
