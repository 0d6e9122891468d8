"""Quantize: choose the precision of every linear layer from real rows."""

from __future__ import annotations

import shutil
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline.model import checkpoint, parts, quantization
from pipeline.model.quantization import LinearPlan, Plan
from pipeline.stage import Asked, Context, Draft, Quantization, Stage
from pipeline.stage.resources import PROCESS, Resources, Workload, upto, weights
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import RecipeError
from pipeline.terms.vocabulary import Isa, Target
from stages import footprint
from stages.parameters import Row

SENSITIVITY_ROWS = 64


class Quantize(Stage):
    """Write a quantization plan: int8 for linear layers that tolerate it, or fp16 for GPUs.

    The weights do not change; ``export`` applies the plan. Each linear layer is tried alone in
    int8 (weights per output channel, inputs per tensor) on development rows. Its damage is the
    divergence of the answers from those in full precision, as KL in nats. Layers above
    ``max_damage`` stay float. ``mode: dynamic`` determines the range of each input at run time;
    ``static`` takes it from the calibration rows, which is faster at run time. The last layer of
    the classifier stays float. The arithmetic follows Jacob et al. 2018 (arXiv 1712.05877);
    calibration and partial quantization by sensitivity follow Wu et al. 2020 (arXiv 2004.09602).
    """

    name: ClassVar[str] = "quantize"
    version: ClassVar[int] = 3
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = None
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev"})
    quantization: ClassVar[Quantization] = "plans"

    precision: Literal["int8", "fp16"] = "int8"
    mode: Literal["dynamic", "static"] = "dynamic"
    calibration_rows: int = Field(256, ge=8, le=100_000, description="training rows to use")
    percentile: float = Field(
        100.0, gt=50, le=100, description="static: percentage of inputs inside the range"
    )
    sensitivity: bool = Field(
        True, description="measure each layer's damage and keep layers above max_damage in float"
    )
    max_damage: float = Field(
        0.005, gt=0, description="the most damage that one layer may do, as KL in nats"
    )
    embeddings: Literal["int8", "float"] = "int8"
    exclude: tuple[str, ...] = Field((), description="paths of modules to keep in float")

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return what damage depends on: the width of the weights that the targets take."""
        return {"isa": narrowest(asked.targets)} if self.precision == "int8" else {}

    def resources(self, work: Workload) -> Resources:
        """Return the resources for trying each layer.

        Memory: the model, one fake-quantized layer, and a forward pass. Merging an adapter first
        needs the weights a second time. Disk: a copy of the input.
        """
        shape, length = work.shape, work.longest_of(self.reads)
        rows = min(self.calibration_rows, work.rows_of(self.reads))
        tried = shape.layers * SENSITIVITY_ROWS if self.sensitivity else 0
        return Resources(
            disk=weights(shape),
            memory=PROCESS
            + weights(shape)
            + upto(weights(shape).most)
            + footprint.answering(shape, SENSITIVITY_ROWS, length),
            shape=shape,
            effort=(rows + tried) * shape.body,
        )

    def run(self, context: Context, model: Artifact) -> Draft:
        """Copy the checkpoint and add its quantization plan."""
        roles = _copy(model, context)
        network = checkpoint.load(model.directory)
        if hasattr(network, "merge_and_unload"):
            # Only for the measurements: merging does not change the layers' inputs.
            network = network.merge_and_unload()
        facts = dict(model.manifest.model)
        if self.precision == "fp16":
            plan, metrics = Plan(precision="fp16"), []
        else:
            plan, metrics = self._integer_plan(context, network, model)
        quantization.write(plan, context.output)
        roles[quantization.FILE] = "plan"
        facts["quantization"] = {
            "precision": plan.precision,
            "mode": plan.mode,
            "integer": len(plan.integer_modules),
            "float": len(plan.linears) - len(plan.integer_modules),
        }
        return Draft(roles=roles, model=facts, metrics=tuple(metrics))

    def _integer_plan(
        self, context: Context, network: Any, model: Artifact
    ) -> tuple[Plan, list[Metric]]:
        from stages import sensitivity

        isa = narrowest(context.targets)
        layers = sensitivity.linear_layers(network)
        for name in self.exclude:
            if name not in layers:
                near = ", ".join(list(layers)[:3])
                raise RecipeError(
                    f"quantize.exclude: no linear layer {name!r}; the model has {near}, …"
                )
        fixed = set(parts.position_projections(network))  # the export folds them into constants
        candidates = [name for name in layers if name not in fixed.union(self.exclude)]
        rows = self._rows(context, model, "train", self.calibration_rows)
        few = self._rows(context, model, "dev", SENSITIVITY_ROWS)
        ranges = {}
        if self.mode == "static":
            context.progress(0, 1, "recording input ranges")
            ranges = sensitivity.input_ranges(network, candidates, rows, self.percentile)
        chosen, damages = candidates, dict[str, float]()
        if self.sensitivity:
            damages = sensitivity.damages(
                context.task, network, candidates, few, ranges, isa, context.progress
            )
            chosen = [name for name in candidates if damages[name] <= self.max_damage]
        plan = Plan(
            mode=self.mode,
            embeddings=self.embeddings,
            linears={
                name: self._layer(name in chosen, ranges.get(name), damages.get(name))
                for name in layers
            },
        )
        metrics = [Metric(name="integer_layers", value=len(chosen), n=len(layers))]
        if self.sensitivity and chosen:
            together = sensitivity.joint_damage(context.task, network, chosen, few, ranges, isa)
            metrics.append(Metric(name="quantization_kl", split="dev", value=together))
        return plan, metrics

    @staticmethod
    def _layer(
        integer: bool, limits: tuple[float, float] | None, damage: float | None
    ) -> LinearPlan:
        low, high = limits if integer and limits else (None, None)
        return LinearPlan(
            precision="int8" if integer else "float", low=low, high=high, damage=damage
        )

    def _rows(self, context: Context, model: Artifact, name: str, count: int) -> list[Row]:
        """Tokenize rows spread evenly over a split."""
        split = context.split(name)
        step = max(1, len(split) // count)
        chosen = range(0, len(split), step)[:count]
        return context.task.examples(checkpoint.load_tokenizer(model.directory), split, chosen)


def narrowest(targets: tuple[Target, ...]) -> Isa:
    """Return ``vnni`` if that is what all of the recipe's CPUs have: the width to be measured."""
    wide = [target.isa == "vnni" for target in targets if target.provider == "cpu"]
    return "vnni" if wide and all(wide) else "avx2"


def _copy(model: Artifact, context: Context) -> dict[str, str]:
    """Copy the input's files except an older plan; return their roles."""
    roles = {}
    for entry in model.manifest.files:
        if entry.path != quantization.FILE:
            target = context.output / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.directory / entry.path, target)
            roles[entry.path] = entry.role
    return roles
