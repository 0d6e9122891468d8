"""Quantize: choose the precision of every linear layer from real rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.model import checkpoint, parts, quantization
from pipeline.model.quantization import Calibration, LinearPlan, Method, Plan
from pipeline.stage import Asked, Context, Draft, Quantization, Stage
from pipeline.stage.resources import PROCESS, Resources, Workload, upto, weights
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import RecipeError
from pipeline.terms.vocabulary import Isa, Target
from stages import footprint

if TYPE_CHECKING:
    from stages.ranges import Range

SENSITIVITY_ROWS = 64


class Quantize(Stage):
    """Write a quantization plan: int8 for linear layers that tolerate it, or fp16 for GPUs.

    The weights do not change; ``export`` applies the plan. All linear layers are tried in int8
    (weights per output channel, inputs per tensor) on development rows. Their damage is the
    divergence of the answers from those in full precision, as KL in nats. If together they do more
    than ``max_damage``, each is tried alone, and layers above it stay float. ``mode: dynamic``
    determines the range of each input at run time; ``static`` takes it from the calibration rows,
    by ``calibration``; ``merge`` takes it again. If the layers that are left do more damage than
    ``max_joint_damage`` together, the worst of them stay float too. The last layer of the
    classifier stays float. The arithmetic follows Jacob et al. 2018 (arXiv 1712.05877); calibration
    and partial quantization by sensitivity follow Wu et al. 2020 (arXiv 2004.09602).
    """

    name: ClassVar[str] = "quantize"
    version: ClassVar[int] = 5
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = None
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev"})
    quantization: ClassVar[Quantization] = "plans"

    precision: Literal["int8", "fp16"] = "int8"
    mode: Literal["dynamic", "static"] = "dynamic"
    calibration_rows: int = Field(256, ge=8, le=100_000, description="training rows to use")
    calibration: Method = Field(
        "min-max", description="static: how the range of a layer's inputs is chosen"
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="of calibration by percentile: inputs inside the range"
    )
    sensitivity: bool = Field(
        True, description="measure damage, and keep in float what does more than is allowed"
    )
    max_damage: float = Field(
        0.005, gt=0, description="the most damage that one layer may do, as KL in nats"
    )
    max_joint_damage: float = Field(
        0.02, gt=0, description="the most damage of all layers together, as KL in nats"
    )
    embeddings: Literal["int8", "float"] = "int8"
    exclude: tuple[str, ...] = Field((), description="paths of modules to keep in float")

    @model_validator(mode="after")
    def _percentile_is_used(self) -> Quantize:
        if "percentile" in self.model_fields_set and self.calibration != "percentile":
            raise ValueError("'percentile' is of 'calibration: percentile'")
        return self

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
        from stages import ranges, sensitivity

        layers = sensitivity.linear_layers(network)
        for name in self.exclude:
            if name not in layers:
                near = ", ".join(list(layers)[:3])
                raise RecipeError(
                    f"quantize.exclude: no linear layer {name!r}; the model has {near}, …"
                )
        fixed = set(parts.position_projections(network))  # the export folds them into constants
        candidates = [name for name in layers if name not in fixed.union(self.exclude)]
        how, limits = None, dict[str, ranges.Range]()
        if self.mode == "static":
            how = Calibration(
                method=self.calibration, percentile=self.percentile, rows=self.calibration_rows
            )
            tokenizer = checkpoint.load_tokenizer(model.directory)
            rows = ranges.rows(context, tokenizer, "train", self.calibration_rows)
            limits = ranges.measure(network, candidates, rows, how, context.progress)
        chosen, damages, metrics = candidates, dict[str, float](), list[Metric]()
        if self.sensitivity:
            chosen, damages, together = self._tolerant(context, network, model, candidates, limits)
            if chosen:
                metrics.append(Metric(name="quantization_kl", split="dev", value=together))
        plan = Plan(
            mode=self.mode,
            calibration=how,
            embeddings=self.embeddings,
            linears={
                name: self._layer(name in chosen, limits.get(name), damages.get(name))
                for name in layers
            },
        )
        return plan, [Metric(name="integer_layers", value=len(chosen), n=len(layers)), *metrics]

    def _tolerant(
        self,
        context: Context,
        network: Any,
        model: Artifact,
        candidates: list[str],
        limits: Mapping[str, Range],
    ) -> tuple[list[str], dict[str, float], float]:
        """Return the layers that may be integer, each layer's damage, and that of the former.

        A layer's damage is only measured if all layers together do more than one alone may.
        """
        from stages import ranges, sensitivity

        isa, task = narrowest(context.targets), context.task
        tokenizer = checkpoint.load_tokenizer(model.directory)
        rows = ranges.rows(context, tokenizer, "dev", SENSITIVITY_ROWS)
        kept = candidates

        def together(count: int) -> float:
            context.progress(0, 1, f"trying {count} layers in int8 together")
            return sensitivity.joint_damage(task, network, kept[:count], rows, limits, isa)

        damage = together(len(kept))
        if damage <= min(self.max_damage, self.max_joint_damage):
            return kept, {}, damage
        damages = sensitivity.damages(
            task, network, candidates, rows, limits, isa, context.progress
        )
        kept = [name for name in candidates if damages[name] <= self.max_damage]
        kept.sort(key=damages.__getitem__)
        count, damage = most_within(self.max_joint_damage, len(kept), together)
        return kept[:count], damages, damage

    @staticmethod
    def _layer(integer: bool, limits: Range | None, damage: float | None) -> LinearPlan:
        low, high = limits if integer and limits else (None, None)
        return LinearPlan(
            precision="int8" if integer else "float", low=low, high=high, damage=damage
        )


def most_within(limit: float, count: int, damage_of: Callable[[int], float]) -> tuple[int, float]:
    """Return the largest number up to ``count`` whose damage is within the limit, and its damage.

    It is found by bisection: more do more damage, nearly always. None does none.
    """
    damage = damage_of(count)
    if damage <= limit:
        return count, damage
    fits, least, over = 0, 0.0, count
    while over - fits > 1:
        middle = (fits + over) // 2
        damage = damage_of(middle)
        if damage <= limit:
            fits, least = middle, damage
        else:
            over = middle
    return fits, least


def narrowest(targets: tuple[Target, ...]) -> Isa:
    """Return ``vnni`` if that is what all of the recipe's CPUs have: the width to be measured."""
    wide = [target.isa == "vnni" for target in targets if target.provider in ("cpu", "openvino")]
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
