"""Quantize: choose the precision of every linear layer from real rows."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.measure import machine
from pipeline.model import blockwise, checkpoint, quantization
from pipeline.model.architectures.description import Config
from pipeline.model.blockwise import Blocks
from pipeline.model.quantization import Calibration, Embeddings, LinearPlan, Method, Plan
from pipeline.stage import Asked, Context, Draft, Quantization, Stage
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import RecipeError
from pipeline.terms.interval import Interval
from stages import excluded, planning
from stages.bisection import most_within
from stages.parameters import changed
from stages.planning import SEARCH, copied, narrowest, symmetric

if TYPE_CHECKING:
    from stages.sensitivity import Sensitivity

log = logging.getLogger(__name__)

SENSITIVITY_ROWS = 64
NOTHING: Mapping[str, LinearPlan] = {}
NO_BLOCKS: Mapping[str, Blocks] = {}
LIMITS = frozenset({"max_damage", "max_joint_damage"})
CHOSEN_BY_SEARCH = frozenset({"calibration", "sensitivity", "max_damage", "smooth"})


class Quantize(Stage):
    """Write a quantization plan: int8 for linear layers that tolerate it, or fp16 for GPUs.

    The weights do not change; ``export`` applies the plan. All linear layers are tried in int8
    (weights per output channel, inputs per tensor) on development rows. Their damage is the
    divergence of the answers from those in full precision, as KL in nats. If together they do more
    than ``max_damage``, each is tried alone, and layers above it stay float. ``mode: dynamic``
    determines the range of each input at run time; ``static`` takes it from the calibration rows,
    by ``calibration``; ``merge`` takes it again. Where TensorRT is all that int8 is for, ranges are
    as wide below zero as above it, since it has no others. If the layers that are left do more
    damage than ``max_joint_damage`` together, the worst of them stay float too. The last layer of
    the classifier stays float. The arithmetic follows Jacob et al. 2018 (arXiv 1712.05877);
    calibration and partial quantization by sensitivity follow Wu et al. 2020 (arXiv 2004.09602).

    ``mode: search`` chooses all of this by measurement: the fastest plan whose bundle does no more
    damage than ``max_joint_damage``. It tries dynamic and static ranges, every method of
    calibration, and smoothing, for each group of layers that read the same inputs,
    and times the best plans on the first target with a CPU. All plans that were tried are in
    search.json, with the Pareto front of damage and latency.

    ``weights: int4`` is for size: the layers that tolerate it have weights in 4 bits, rounded by
    GPTQ (Frantar et al. 2023, arXiv 2210.17323) for the inputs in the calibration rows; 64
    neighbours share a scale and a zero point. The others have 8. When the bundle is loaded, 4 bits
    become 8, so it takes the same time and memory.
    """

    name: ClassVar[str] = "quantize"
    version: ClassVar[int] = 15
    libraries: ClassVar[tuple[str, ...]] = (*Stage.libraries, "numpy", "peft")
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = None
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev"})
    quantization: ClassVar[Quantization] = "plans"

    precision: Literal["int8", "fp16"] = Field(default="int8", description="fp16 is for GPUs")
    mode: Literal["dynamic", "static", "search"] = Field(
        default="dynamic", description="how the ranges of inputs are found; search tries both"
    )
    minutes: float = Field(
        default=10, gt=0, le=1440, description="of mode search: after this nothing more is tried"
    )
    calibration_rows: int = Field(default=256, ge=8, le=100_000, description="training rows to use")
    calibration: Method = Field(
        default="min-max", description="static: how the range of a layer's inputs is chosen"
    )
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="of calibration by percentile: inputs inside"
    )
    sensitivity: bool = Field(
        default=True, description="measure damage, and keep in float what does more than is allowed"
    )
    max_damage: float = Field(
        default=0.005, gt=0, description="the most damage that one layer may do, as KL in nats"
    )
    max_joint_damage: float = Field(
        default=0.02,
        gt=0,
        description="the most damage of all layers and the vocabulary together, as KL in nats",
    )
    smooth: bool = Field(
        default=False,
        description="divide inputs, so that large channels do not take the range of the others, "
        "and multiply weights (SmoothQuant, arXiv 2211.10438), where it halves the error",
    )
    weights: Literal["int8", "int4"] = Field(
        default="int8",
        description="of the layers in the file; int4 takes little more than half of the bytes, "
        "where the answers tolerate it",
    )
    embeddings: Embeddings = Field(
        default="int8",
        description="of the vocabulary; int4 is for size, where the answers tolerate it",
    )
    exclude: tuple[str, ...] = Field(default=(), description="paths of modules to keep in float")

    @model_validator(mode="after")
    def _every_parameter_is_used(self) -> Quantize:
        given = set(changed(self, type(self).model_fields))
        if self.precision == "fp16" and (unused := sorted(given - {"precision"})):
            raise ValueError(
                f"{unused[0]!r} is not of 'precision: fp16', which takes all of a graph"
            )
        if self.mode == "search":
            if unused := sorted(given & CHOSEN_BY_SEARCH):
                raise ValueError(f"{unused[0]!r} is not of 'mode: search', which decides it itself")
        elif "minutes" in given:
            raise ValueError("'minutes' is of 'mode: search'")
        if self.weights == "int4":
            if self.mode == "search":
                raise ValueError("'mode: search' chooses among plans in int8; leave 'weights' out")
            if self.smooth:
                raise ValueError("'smooth' is for weights in int8")
        if "calibration" in given and self.mode == "dynamic":
            raise ValueError(
                "'calibration' is of 'mode: static'; dynamic ranges are each row's own"
            )
        if "percentile" in given and self.mode != "search" and self.calibration != "percentile":
            raise ValueError("'percentile' is of 'calibration: percentile'")
        if not self.sensitivity and (unused := sorted(given & LIMITS)):
            raise ValueError(f"{unused[0]!r} is a limit of what 'sensitivity' measures")
        return self

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check, as far as is certain, that the model has the layers in ``exclude``."""
        excluded.check(self.exclude, config)
        return config

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return what the plan depends on: the targets' width of weights; and for a search, more.

        Raises RecipeError if a search has no CPU to time on.
        """
        if self.precision != "int8":
            return {}
        found: dict[str, Any] = {"isa": narrowest(asked.targets)}
        if symmetric(asked.targets):
            found["ranges"] = "symmetric"
        if self.mode == "search":
            timed = [each for each in asked.targets if each.provider == "cpu"]
            if not timed:
                raise RecipeError("quantize.mode: search times int8 on a CPU; add such a target")
            found |= {"machine": machine.fingerprint(), "threads": timed[0].threads}
        return found

    def run(self, context: Context, model: Artifact) -> Draft:
        """Copy the checkpoint and add its quantization plan."""
        roles = copied(model, context.output)
        network = checkpoint.load(model.directory)
        if hasattr(network, "merge_and_unload"):
            # Only for the measurements: merging does not change the layers' inputs.
            network = network.merge_and_unload()
        facts = dict(model.manifest.model)
        metrics: list[Metric] = []
        about: dict[str, Any] = {}
        if self.precision == "fp16":
            plan = Plan(precision="fp16")
        else:
            tokenizer = checkpoint.load_tokenizer(model.directory)
            make = self._searched if self.mode == "search" else self._chosen
            plan, metrics, about = make(context, network, tokenizer)
        quantization.write(plan, context.output)
        roles[quantization.FILE] = "plan"
        if (context.output / blockwise.FILE).is_file():
            roles[blockwise.FILE] = "int4"
        if about:
            roles[SEARCH] = "search"
        facts["quantization"] = {
            "precision": plan.precision,
            "mode": plan.mode,
            "integer": len(plan.integer_modules),
            "int4": len(plan.int4_modules),
            "float": len(plan.linears) - len(plan.integer_modules),
        } | about
        return Draft(roles=roles, model=facts, metrics=tuple(metrics))

    def _chosen(
        self, context: Context, network: Any, tokenizer: Any
    ) -> tuple[Plan, list[Metric], dict[str, Any]]:
        """Return the plan that the parameters ask for, and its metrics."""
        from stages import gptq, ranges, smoothing

        names, candidates = excluded.candidates(network, self.exclude)
        isa, progress = narrowest(context.targets), context.progress
        layers = {name: LinearPlan(precision="int8") for name in candidates}
        how, rows = None, list[Any]()
        four = self.weights == "int4"
        if four or self.mode == "static" or self.smooth:
            rows = ranges.rows(context, tokenizer, "train", self.calibration_rows)
            how = Calibration(
                method=self.calibration, percentile=self.percentile, rows=self.calibration_rows
            )
            factors = dict[str, tuple[float, ...]]()
            if self.smooth:
                groups = smoothing.groups(network, candidates, rows[0])
                factors = smoothing.factors(network, groups, rows, isa, progress)
            limits = dict[str, ranges.Range]()
            if self.mode == "static":
                limits = ranges.measure(network, candidates, rows, how, progress, factors)
                if symmetric(context.targets):
                    limits = {name: ranges.widened(each) for name, each in limits.items()}
            for name in candidates:
                low, high = limits.get(name, (None, None))
                layers[name] = LinearPlan(
                    precision="int8", low=low, high=high, factors=factors.get(name)
                )
        kept, metrics, embeddings = layers, list[Metric](), self.embeddings
        int4 = gptq.rounded_layers(network, candidates, rows, progress) if four else {}
        in_int4 = {name: planning.in_int4(kept[name]) for name in int4}
        if self.sensitivity:
            measured = self._sensitivity(context, network, tokenizer, int4)
            embeddings = self._tolerated(measured)
            layers, kept, damage = self._tolerant(context, measured, layers)
            in_int4 = {name: planning.in_int4(kept[name]) for name in int4 if name in kept}
            if in_int4:
                _, in_int4, together = self._tolerant(context, measured, in_int4, kept)
                damage = together if in_int4 else damage
            if kept:
                metrics.append(Metric(name="quantization_kl", split="dev", value=damage))
        kept = {**kept, **in_int4}
        if four:
            metrics.insert(0, Metric(name="int4_layers", value=len(in_int4), n=len(names)))
        if in_int4:
            blockwise.write({name: int4[name] for name in in_int4}, context.output)
        metrics.insert(0, Metric(name="integer_layers", value=len(kept), n=len(names)))
        linears = {
            name: kept.get(name)
            or planning.in_float(layers[name].damage if name in layers else None)
            for name in names
        }
        mode = "static" if self.mode == "static" else "dynamic"
        plan = Plan(mode=mode, calibration=how, embeddings=embeddings, linears=linears)
        return plan, metrics, {}

    def _sensitivity(
        self, context: Context, network: Any, tokenizer: Any, int4: Mapping[str, Blocks] = NO_BLOCKS
    ) -> Sensitivity:
        """Return what measures damage, on development rows."""
        from stages import ranges, sensitivity

        dev = ranges.rows(context, tokenizer, "dev", SENSITIVITY_ROWS)
        isa = narrowest(context.targets)
        return sensitivity.Sensitivity(context.task, network, dev, isa, int4)

    def _tolerated(self, measured: Sensitivity) -> Embeddings:
        """Return what the embeddings are stored in: more bits if they alone do too much damage.

        What layers do together is then measured with the embeddings rounded so. A search has no
        limit for what one layer does.
        """
        alone = [] if self.mode == "search" else [self.max_damage]
        limit = min([*alone, self.max_joint_damage])
        widths: tuple[Embeddings, ...] = ("int4", "int8", "float")
        for narrow, wider in itertools.pairwise(widths[widths.index(self.embeddings) :]):
            measured.embeddings = narrow
            damage = measured.damage({})
            if damage <= limit:
                return narrow
            log.warning(
                "quantize.embeddings: in %s they alone do %.2g of damage, more than %s (%.2g); "
                "they are in %s",
                *(narrow, damage, "max_damage or " * len(alone) + "max_joint_damage", limit, wider),
            )
        measured.embeddings = "float"
        return "float"

    def _tolerant(
        self,
        context: Context,
        measured: Sensitivity,
        layers: dict[str, LinearPlan],
        beside: Mapping[str, LinearPlan] = NOTHING,
    ) -> tuple[dict[str, LinearPlan], dict[str, LinearPlan], float]:
        """Return all layers with their damage, those that may be rounded, and the latter's damage.

        A layer's damage is only measured if all layers together do more than one alone may.
        ``beside``: how other layers are rounded, and these where they are not as in ``layers``.
        """
        kept = list(layers)

        def together(count: int) -> float:
            context.progress(0, 1, f"trying {count} layers together")
            return measured.damage({**beside, **{name: layers[name] for name in kept[:count]}})

        damage = together(len(kept))
        if damage <= min(self.max_damage, self.max_joint_damage):
            return layers, layers, damage
        damages = measured.damages(layers, context.progress)
        layers = {
            name: layer.model_copy(update={"damage": damages[name]})
            for name, layer in layers.items()
        }
        kept = [name for name in layers if damages[name] <= self.max_damage]
        kept.sort(key=damages.__getitem__)
        count, damage = most_within(self.max_joint_damage, len(kept), together)
        return layers, {name: layers[name] for name in kept[:count]}, damage

    def _searched(
        self, context: Context, network: Any, tokenizer: Any
    ) -> tuple[Plan, list[Metric], dict[str, Any]]:
        """Return the plan that a search finds, its metrics and facts; write what was tried."""
        from stages import ranges
        from stages.plan_search import Search

        names, candidates = excluded.candidates(network, self.exclude)
        embeddings = self._tolerated(self._sensitivity(context, network, tokenizer))
        search = Search(
            context,
            network,
            tokenizer,
            candidates,
            ranges.rows(context, tokenizer, "train", self.calibration_rows),
            narrowest(context.targets),
            self.max_joint_damage,
            60 * self.minutes,
            self.percentile,
            embeddings,
        )
        found = search.run()
        record = found.record(self.max_joint_damage)
        (context.output / SEARCH).write_text(json.dumps(record, indent=1) + "\n")
        plan, best = search.plan(found.chosen.layers), found.chosen
        linears = {name: plan.linears.get(name) or planning.in_float(None) for name in names}
        assert best.interval is not None
        metrics = [
            Metric(name="integer_layers", value=len(best.layers), n=len(names)),
            Metric(name="quantization_kl", split="dev", value=best.damage),
            _ms("plan_ms", best.interval),
            _ms("float_ms", found.float_ms),
            Metric(name="search_seconds", value=round(found.seconds, 1), n=len(found.tried)),
        ]
        front = [
            f"{row['ms']:.3g} ms: {row['damage']:.2g}" for row in record["plans"] if row["front"]
        ]
        return plan.model_copy(update={"linears": linears}), metrics, {"front": front}


def _ms(name: str, interval: Interval) -> Metric:
    return Metric(name=name, value=interval.value, low=interval.low, high=interval.high)
