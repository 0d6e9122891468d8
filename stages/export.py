"""Export: a checkpoint as a bundle in ONNX that answers without PyTorch."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from pipeline.stage import Asked, Context, Draft, Quantization, Stage
from pipeline.stage.resources import (
    FLOAT,
    PROCESS,
    Resources,
    Span,
    Workload,
    upto,
    weights,
)
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import RecipeError
from pipeline.terms.vocabulary import Target


class Export(Stage):
    """Write the model as ONNX for a target, carrying out its quantization plan.

    The graph comes from ``torch.onnx.export``; our passes make it small and fast: the mask in four
    nodes, the attention's scale inside the weights, the last layer for the first token alone, int8
    embeddings and integer matrix products as the plan says. After each, logits are compared with
    PyTorch's on real rows, padded and not, and the operators are counted; what is off is an error.
    """

    name: ClassVar[str] = "export"
    version: ClassVar[int] = 3
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.BUNDLE
    libraries: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "onnx",
        "onnxscript",
        "onnxruntime",
    )
    quantization: ClassVar[Quantization] = "keeps"

    target: str | None = Field(None, description="name of a target; the recipe's first by default")

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return what decides the graph (provider, the CPU's int8 arithmetic) and its session."""
        from exporters import integer_arithmetic

        target = self._target(asked.targets)
        return {
            "provider": target.provider,
            "threads": target.threads,
            "saturates": integer_arithmetic.saturates(),
        }

    def resources(self, work: Workload) -> Resources:
        """Return what tracing and parity need.

        Disk: the graph, 4·P, or down to P in int8. Memory: the model in PyTorch and, for parity, in
        a session of ONNX Runtime; at most also the graph, its bytes, and the session's packed
        weights.
        """
        size = FLOAT * work.shape.parameters
        return Resources(
            disk=Span(size // 4 if work.shape.exact else 0, size),
            memory=PROCESS + weights(work.shape, copies=2) + upto(4 * size),
            shape=work.shape,
            effort=work.shape.body,
        )

    def run(self, context: Context, model: Artifact) -> Draft:
        """Build the bundle in its deployable form."""
        from exporters.build import build

        target = self._target(context.targets)
        info = build(
            model.directory,
            context.output,
            task=context.task,
            split=context.split("train"),
            form="deploy",
            target_provider=target.provider,
            threads=target.threads,
            progress=context.progress,
        )
        rows = info.parity.rows
        metrics = (
            Metric(name="parity", split="train", value=info.parity.max_difference, n=rows),
            Metric(name="agreement", split="train", value=info.parity.agreement, n=rows),
            Metric(name="integer_matmuls", value=info.integer_matmuls),
            Metric(name="graph_bytes", value=info.size),
        )
        facts = info.model | {"operators": info.operators}
        return Draft(roles=info.roles, model=facts, metrics=metrics)

    def _target(self, targets: tuple[Target, ...]) -> Target:
        if self.target is None:
            return targets[0]
        for target in targets:
            if target.name == self.target:
                return target
        known = ", ".join(target.name for target in targets)
        raise RecipeError(f"export.target: {self.target!r} is no target; there is {known}")
