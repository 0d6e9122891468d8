"""Quantize: choose the precision of every linear layer from real rows."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rarefy.pipeline.measure import machine
from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.stage import Context, Draft, Policy, Requirements, Stage
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import Embeddings, Method
from rarefy.stages.common.bundle_targets import narrowest, symmetric
from rarefy.stages.training.parameters import changed

if TYPE_CHECKING:
    from rarefy.pipeline.model.quantization.four_bits import Blocks
    from rarefy.pipeline.model.quantization.plan import Calibration, LinearPlan, Plan
    from rarefy.stages.quantization.sensitivity import Sensitivity
    from rarefy.stages.training.rows import Rows

log = logging.getLogger(__name__)

SENSITIVITY_ROWS = 64
NOTHING: Mapping[str, LinearPlan] = {}
NO_BLOCKS: Mapping[str, Blocks] = {}
LIMITS = frozenset({"max_damage", "max_joint_damage"})
CHOSEN_BY_SEARCH = frozenset({"calibration", "sensitivity", "max_damage", "smooth"})


class Quantize(Stage):
    """Write a quantization plan: int8 for linear layers that tolerate it, or fp16 for GPUs.

    The weights do not change; ``export`` applies the plan. All linear layers are tried in int8
    (weights per output channel, inputs per tensor) on development rows. The quantization error
    (damage) is the KL divergence of the predictions from those in full precision, in nats. If the
    error of all together exceeds ``max_damage``, each layer is tried alone, and layers above the
    limit stay float. ``mode: dynamic`` determines the range of each input at run time; ``static``
    determines it from the calibration rows, by ``calibration``, and ``merge`` determines it again.
    If TensorRT is the only int8 target, ranges are symmetric around zero, the only kind it
    supports. If the joint error of the remaining layers exceeds ``max_joint_damage``, the worst of
    them also stay float. The last layer of the classifier stays float. The arithmetic follows Jacob
    et al. 2018 (arXiv 1712.05877); calibration and partial quantization by sensitivity follow Wu et
    al. 2020 (arXiv 2004.09602).

    ``mode: search`` chooses all of this by measurement: the fastest plan whose quantization error
    is at most ``max_joint_damage``. It tries dynamic and static ranges, both methods of
    calibration, and smoothing, for each group of layers that read the same inputs, and times the
    best plans on the first target with a CPU. All plans that were tried are in search.json, with
    the Pareto front of quantization error and latency.

    ``weights: int4`` is for size: the layers that tolerate it have weights in 4 bits, rounded by
    GPTQ (Frantar et al. 2023, arXiv 2210.17323) for the inputs in the calibration rows; 64
    neighbors share a scale and a zero point. The others have 8. When the bundle is loaded, 4 bits
    become 8, so it takes the same time and memory.
    """

    name: ClassVar[str] = "quantize"
    version: ClassVar[int] = 16
    libraries: ClassVar[tuple[str, ...]] = (*Stage.libraries, "numpy", "peft")
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = None
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev"})
    policy: ClassVar[Policy] = Policy(quantization="plans")

    precision: Literal["int8", "fp16"] = Field(
        default="int8", description="Numeric precision; fp16 is for GPUs"
    )
    mode: Literal["dynamic", "static", "search"] = Field(
        default="dynamic",
        description="Method that determines the ranges of inputs; search tries both",
    )
    seconds: float = Field(
        default=600, gt=0, le=86_400, description="Time limit of mode search, in seconds"
    )
    calibration_rows: int = Field(
        default=256, ge=8, le=100_000, description="Number of training rows for calibration"
    )
    calibration: Method = Field(
        default="min-max",
        description="Method that chooses the range of a layer's inputs in mode static",
    )
    sensitivity: bool = Field(
        default=True,
        description="Whether to measure the quantization error and keep layers above the limit "
        "in float",
    )
    max_damage: float = Field(
        default=0.005,
        gt=0,
        description="Maximum quantization error of one layer: the KL divergence of the "
        "predictions, in nats",
    )
    max_joint_damage: float = Field(
        default=0.02,
        gt=0,
        description="Maximum quantization error of all layers and the vocabulary together: the "
        "KL divergence of the predictions, in nats",
    )
    smooth: bool = Field(
        default=False,
        description="Whether to move the scale of large input channels into the weights "
        "(SmoothQuant, arXiv 2211.10438), where this halves the error",
    )
    weights: Literal["int8", "int4"] = Field(
        default="int8",
        description="Precision of the layers' weights in the file; int4 takes slightly more "
        "than half of the bytes, in layers that tolerate it",
    )
    embeddings: Embeddings = Field(
        default="int8",
        description="Precision of the token embeddings; int4 reduces the size, if the "
        "predictions tolerate it",
    )
    exclude: tuple[str, ...] = Field(default=(), description="Paths of modules to keep in float")

    @model_validator(mode="after")
    def _every_parameter_is_used(self) -> Quantize:
        names = set(changed(self, type(self).model_fields))
        unused = sorted(names - {"precision"})
        if self.precision == "fp16" and unused:
            raise ValueError(f"{unused[0]!r} does not apply to 'precision: fp16'; remove it")
        if self.mode == "search":
            self._check_search(names)
        elif "seconds" in names:
            raise ValueError("'seconds' needs 'mode: search'")
        if self.weights == "int4" and self.smooth:
            raise ValueError("'smooth' is for weights in int8")
        if "calibration" in names and self.mode == "dynamic":
            raise ValueError(
                "'calibration' needs 'mode: static'; dynamic ranges are computed at each call"
            )
        unused = sorted(names & LIMITS)
        if not self.sensitivity and unused:
            raise ValueError(f"{unused[0]!r} needs 'sensitivity', whose measurement it limits")
        return self

    def _check_search(self, names: set[str]) -> None:
        """Raise ValueError if the recipe gives a parameter that a search decides itself."""
        unused = sorted(names & CHOSEN_BY_SEARCH)
        if unused:
            raise ValueError(f"{unused[0]!r} is chosen by 'mode: search'; remove it")
        if self.weights == "int4":
            raise ValueError("'mode: search' chooses among plans in int8; leave 'weights' out")

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check, as far as is certain, that the model has the layers in ``exclude``."""
        if self.exclude:
            from rarefy.stages.quantize import excluded

            excluded.check(self.exclude, config)
        return config

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return what the plan depends on: the targets' width of weights; and for a search, more.

        Raises RecipeError if a search has no CPU to time on.
        """
        if self.precision != "int8":
            return {}
        found: dict[str, Any] = {"isa": narrowest(requirements.targets)}
        if symmetric(requirements.targets):
            found["ranges"] = "symmetric"
        if self.mode == "search":
            timed = [each for each in requirements.targets if each.provider == "cpu"]
            if not timed:
                raise RecipeError("quantize.mode: search times int8 on a CPU; add such a target")
            found |= {"machine": machine.fingerprint(), "threads": timed[0].threads}
        return found

    def run(self, context: Context, model: Artifact) -> Draft:
        """Copy the checkpoint and add its quantization plan."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.pipeline.model.quantization import four_bits
        from rarefy.pipeline.model.quantization import plan as quantization
        from rarefy.stages.quantization.plans import SEARCH, copied

        roles = copied(model, context.output)
        network = checkpoint.load(model.directory)
        if hasattr(network, "merge_and_unload"):
            # Only for the measurements: merging does not change the layers' inputs.
            network = network.merge_and_unload()
        facts = dict(model.manifest.model)
        metrics: list[Metric] = []
        about: dict[str, Any] = {}
        if self.precision == "fp16":
            plan = quantization.Plan(precision="fp16")
        else:
            tokenizer = checkpoint.load_tokenizer(model.directory)
            make_plan = self._searched if self.mode == "search" else self._chosen
            plan, metrics, about = make_plan(context, network, tokenizer)
        quantization.write(plan, context.output)
        roles[quantization.FILE] = "plan"
        if (context.output / four_bits.FILE).is_file():
            roles[four_bits.FILE] = "int4"
        if about:
            roles[SEARCH] = "search"
        integer = len(plan.integer_modules)
        facts["quantization"] = {
            "precision": plan.precision,
            "mode": plan.mode,
            "integer": integer,
            "int4": len(plan.int4_modules),
            "float": len(plan.linears) - integer,
            **about,
        }
        return Draft(roles=roles, model=facts, metrics=tuple(metrics))

    def _chosen(
        self, context: Context, network: Any, tokenizer: Any
    ) -> tuple[Plan, list[Metric], dict[str, Any]]:
        """Return the plan that the parameters ask for, and its metrics."""
        from rarefy.pipeline.model.quantization import four_bits
        from rarefy.pipeline.model.quantization.plan import Calibration, LinearPlan, Plan
        from rarefy.stages.quantization import plans, ranges
        from rarefy.stages.quantize import excluded, gptq

        names, candidates = excluded.candidates(network, self.exclude)
        layers = {name: LinearPlan(precision="int8") for name in candidates}
        how, int4 = None, NO_BLOCKS
        four = self.weights == "int4"
        if four or self.mode == "static" or self.smooth:
            rows = ranges.rows(context, tokenizer, "train", self.calibration_rows)
            how = Calibration(method=self.calibration, rows=self.calibration_rows)
            layers = self._calibrated(context, network, candidates, rows, how)
            if four:
                int4 = gptq.rounded_layers(network, candidates, rows, context.progress)
        retained, embeddings = layers, self.embeddings
        in_int4 = {name: plans.in_int4(layers[name]) for name in int4}
        metrics: list[Metric] = []
        if self.sensitivity:
            measured = self._sensitivity(context, network, tokenizer, int4)
            embeddings = self._tolerated(measured)
            layers, retained, damage = self._tolerant(context, measured, layers)
            in_int4 = {name: plans.in_int4(retained[name]) for name in int4 if name in retained}
            if in_int4:
                _, in_int4, together = self._tolerant(context, measured, in_int4, retained)
                damage = together if in_int4 else damage
            if retained:
                metrics.append(Metric(name="quantization_kl", split="dev", value=damage))
        retained = {**retained, **in_int4}
        if four:
            metrics.insert(0, Metric(name="int4_layers", value=len(in_int4), n=len(names)))
        if in_int4:
            four_bits.write({name: int4[name] for name in in_int4}, context.output)
        metrics.insert(0, Metric(name="integer_layers", value=len(retained), n=len(names)))
        linears = {}
        for name in names:
            layer = retained.get(name)
            if layer is None:
                damage_alone = layers[name].damage if name in layers else None
                layer = plans.in_float(damage_alone)
            linears[name] = layer
        mode = "static" if self.mode == "static" else "dynamic"
        plan = Plan(mode=mode, calibration=how, embeddings=embeddings, linears=linears)
        return plan, metrics, {}

    def _calibrated(
        self, context: Context, network: Any, names: list[str], rows: Rows, how: Calibration
    ) -> dict[str, LinearPlan]:
        """Return layers in int8, with their factors and static ranges if the recipe wants them."""
        from rarefy.pipeline.model.quantization.plan import LinearPlan
        from rarefy.stages.quantization import ranges, smoothing

        isa, progress = narrowest(context.targets), context.progress
        factors: dict[str, tuple[float, ...]] = {}
        if self.smooth:
            groups = smoothing.groups(network, names, rows[0])
            factors = smoothing.factors(network, groups, rows, isa, progress)
        limits: dict[str, ranges.Range] = {}
        if self.mode == "static":
            limits = ranges.measure(network, names, rows, how, progress, factors)
            if symmetric(context.targets):
                limits = {name: ranges.widened(ends) for name, ends in limits.items()}
        layers = {}
        for name in names:
            low, high = limits.get(name, (None, None))
            layers[name] = LinearPlan(
                precision="int8", low=low, high=high, factors=factors.get(name)
            )
        return layers

    def _sensitivity(
        self, context: Context, network: Any, tokenizer: Any, int4: Mapping[str, Blocks] = NO_BLOCKS
    ) -> Sensitivity:
        """Return what measures damage, on development rows."""
        from rarefy.stages.quantization import ranges, sensitivity

        dev = ranges.rows(context, tokenizer, "dev", SENSITIVITY_ROWS)
        isa = narrowest(context.targets)
        return sensitivity.Sensitivity(context.task, network, dev, isa, int4)

    def _tolerated(self, measured: Sensitivity) -> Embeddings:
        """Return what the embeddings are stored in: more bits if they alone do too much damage.

        What layers do together is then measured with the embeddings rounded so. A search has no
        limit for what one layer does.
        """
        limit, limits = self.max_joint_damage, "max_joint_damage"
        if self.mode != "search":
            limit = min(self.max_damage, limit)
            limits = f"max_damage or {limits}"
        widths: tuple[Embeddings, ...] = ("int4", "int8", "float")
        first = widths.index(self.embeddings)
        for narrow, wider in itertools.pairwise(widths[first:]):
            measured.embeddings = narrow
            damage = measured.damage({})
            if damage <= limit:
                return narrow
            log.warning(
                "quantize.embeddings: in %s their error alone is %.2g, more than %s (%.2g); "
                "they are in %s",
                narrow,
                damage,
                limits,
                limit,
                wider,
            )
        measured.embeddings = "float"
        return "float"

    def _tolerant(
        self,
        context: Context,
        measured: Sensitivity,
        layers: dict[str, LinearPlan],
        others: Mapping[str, LinearPlan] = NOTHING,
    ) -> tuple[dict[str, LinearPlan], dict[str, LinearPlan], float]:
        """Return all layers with their damage, those that may be rounded, and the latter's damage.

        A layer's damage is only measured if all layers together do more than one alone may.

        Args:
            context: the run's context.
            measured: measures damage.
            layers: how layers are rounded.
            others: how other layers are rounded, and these where they are not as in ``layers``.
        """
        from rarefy.stages.common.bisection import most_within

        candidates = list(layers)

        def together(count: int) -> float:
            context.progress(0, 1, f"trying {count} layers together")
            rounded = {name: layers[name] for name in candidates[:count]}
            return measured.damage({**others, **rounded})

        damage = together(len(candidates))
        if damage <= min(self.max_damage, self.max_joint_damage):
            return layers, layers, damage
        damages = measured.damages(layers, context.progress)
        with_damage = {}
        for name, layer in layers.items():
            with_damage[name] = layer.model_copy(update={"damage": damages[name]})
        layers = with_damage
        candidates = [name for name in layers if damages[name] <= self.max_damage]
        candidates.sort(key=damages.__getitem__)
        count, damage = most_within(self.max_joint_damage, len(candidates), together)
        return layers, {name: layers[name] for name in candidates[:count]}, damage

    def _searched(
        self, context: Context, network: Any, tokenizer: Any
    ) -> tuple[Plan, list[Metric], dict[str, Any]]:
        """Return the plan that a search finds, its metrics and facts; write what was tried."""
        from rarefy.stages.quantization import plans, ranges
        from rarefy.stages.quantization.plans import SEARCH
        from rarefy.stages.quantize import excluded
        from rarefy.stages.quantize.search import Search

        names, candidates = excluded.candidates(network, self.exclude)
        measured = self._sensitivity(context, network, tokenizer)
        embeddings = self._tolerated(measured)
        rows = ranges.rows(context, tokenizer, "train", self.calibration_rows)
        search = Search(
            context=context,
            network=network,
            tokenizer=tokenizer,
            names=candidates,
            embeddings=embeddings,
            rows=rows,
            isa=narrowest(context.targets),
            limit=self.max_joint_damage,
            seconds=self.seconds,
        )
        result = search.run()
        record = result.record(self.max_joint_damage)
        text = json.dumps(record, indent=1)
        (context.output / SEARCH).write_text(text + "\n")
        best = result.chosen
        plan = search.plan(best.layers)
        linears = {name: plan.linears.get(name) or plans.in_float(None) for name in names}
        assert best.interval is not None
        layers_metric = Metric(name="integer_layers", value=len(best.layers), n=len(names))
        kl_metric = Metric(name="quantization_kl", split="dev", value=best.damage)
        seconds = round(result.seconds, 1)
        seconds_metric = Metric(name="search_seconds", value=seconds, n=len(result.tried))
        plan_ms, float_ms = _ms("plan_ms", best.interval), _ms("float_ms", result.float_ms)
        metrics = [layers_metric, kl_metric, plan_ms, float_ms, seconds_metric]
        front = []
        for row in record["plans"]:
            if row["front"]:
                front.append(f"{row['ms']:.3g} ms: {row['damage']:.2g}")
        return plan.model_copy(update={"linears": linears}), metrics, {"front": front}


def _ms(name: str, interval: Interval) -> Metric:
    return Metric(name=name, value=interval.value, low=interval.low, high=interval.high)
