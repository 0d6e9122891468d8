"""Export: turn a checkpoint into an ONNX bundle that runs without PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from rarefy.pipeline.model.runtime import providers
from rarefy.pipeline.stage import Context, Draft, Policy, Requirements, StageCheck
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.terms.digests import version
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import Threshold
from rarefy.stages.common.bundle_targets import Bundling, symmetric
from rarefy.stages.training.parameters import EXPORTING


class Export(Bundling):
    """Write the model as ONNX for a target and apply its quantization plan.

    ``torch.onnx.export`` traces the graph. rarefy's passes then make it small and fast: they build
    padding masks in four nodes, fold the attention scale into the weights, keep relative positions
    as a table, compute the last layer for the first token only, cut position embeddings to
    ``max_length``, make each attention one operator, and use int8 embeddings and integer matrix
    multiplications where the plan requires them. Before and after quantization, the logits are
    compared with PyTorch's on real rows, padded and unpadded, and on rows of up to 2048 tokens. At
    the end, the operators are counted; `rarefy artifact show` and the bundle's README say how many
    places each pass changed. A difference beyond the tolerance is an error that names the first
    incorrect pass. Operators that differ from the plan are also an error. The rows are development
    rows, and three of them are in the bundle verbatim, unless ``samples`` is none.

    An adapter that ``merge`` has not folded in becomes a file of its own, with its task's head:
    ``adapter.onnx_adapter``, in ONNX Runtime's format for LoRA. ``model.onnx`` is then the base,
    the same file for all tasks that adapt the same layers of it, and one session answers them all.
    """

    name: ClassVar[str] = "export"
    version: ClassVar[int] = 40
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = Kind.BUNDLE
    reads: ClassVar[frozenset[str]] = frozenset({"dev"})
    libraries: ClassVar[tuple[str, ...]] = EXPORTING
    policy: ClassVar[Policy] = Policy(quantization="keeps")

    opset: Literal[20, 23] = Field(
        default=23,
        description="Newest opset of ONNX that the graph may need. 23 has an operator for "
        "attention, which bundles for cpu use; 20 is for runtimes older than ONNX Runtime 1.23: "
        "transformers.js 3, Triton up to 25.08, text-embeddings-inference",
    )
    samples: Literal["dev", "none"] = Field(
        default="dev", description="Rows that the bundle contains verbatim, with its predictions"
    )

    threshold: Threshold | None = Field(
        default=None,
        description="What rows with a label must keep, {precision: 95 %} or {recall: 95 %}; "
        "others get none. Default: every row gets a label",
    )

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if the target's provider cannot have the plan, or only slower.

        Also if the task has no thresholds.
        """
        task = recipe.task
        if self.threshold and not task.head.abstains:
            raise RecipeError(f"threshold: {task.name} leaves no row undecided; remove it")
        if self.threshold and task.unlabelled:
            raise RecipeError("threshold: needs labels to choose by, but data.label is null")
        if recipe.input is Kind.ADAPTER:
            self._check_separate(recipe)
        planner = recipe.planner
        if planner is None:
            return
        precision = getattr(planner, "precision", None)
        mode = getattr(planner, "mode", None)
        widths = [getattr(planner, name, None) for name in ("embeddings", "weights")]
        has_int4 = "int4" in widths
        target = self.chosen_target(recipe.targets)
        refusal = providers.refusal(precision, mode, target.provider, self.products, has_int4)
        if refusal:
            raise RecipeError(refusal)
        static = precision == "int8" and mode == "static"
        if static and target.provider == "tensorrt" and not symmetric(recipe.targets):
            raise RecipeError(
                "the plan has ranges for CPUs too, and the quantization error of the symmetric "
                "ones that TensorRT needs was not measured; write a recipe of its own for "
                f"{target.name!r}"
            )

    def _check_separate(self, recipe: StageCheck) -> None:
        """Raise RecipeError if the adapter of the input cannot be a file beside its base."""
        others = [target.provider for target in recipe.targets if target.provider != "cpu"]
        problem = None
        if others:
            problem = f"runs on provider: cpu only, not {others[0]}"
        elif recipe.task.head.body_only:
            problem = f"needs a head, which {recipe.task.name} does not have"
        elif getattr(recipe.planner, "mode", None) == "static":
            problem = "needs dynamic ranges, as an adapter changes what static ones were found by"
        if problem:
            raise RecipeError(
                f"a bundle whose adapter is a file {problem}; put 'merge' before 'export'"
            )

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return what determines the graph (provider, the width of weights), session and check."""
        target = self.chosen_target(requirements.targets)
        facts: dict[str, Any] = {
            "provider": target.provider,
            "threads": target.threads,
            "isa": target.isa,
        }
        if target.provider == "openvino":
            facts["openvino"] = version("openvino")  # which the parity check runs
        return facts

    def run(self, context: Context, model: Artifact) -> Draft:
        """Build the bundle in its deployable form."""
        from rarefy.exporters.build import build

        target = self.chosen_target(context.targets)
        info = build(
            model.directory,
            context.output,
            task=replace(context.task, threshold=self.threshold),
            split=context.split("dev"),
            form="deploy",
            target_provider=target.provider,
            threads=target.threads,
            isa=target.isa,
            products=self.products,
            opset=self.opset,
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
        facts = dict(info.model)
        facts["operators"] = info.operators
        facts["passes"] = info.passes
        return Draft(roles=info.roles, model=facts, metrics=metrics)
