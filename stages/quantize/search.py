"""Search for the fastest quantization plan whose damage is within a limit, by measured latency.

Layers that read the same inputs form a group, which has a few forms: float, or int8 with dynamic or
static ranges, with or without smoothing. What a form saves is in a table of the products' times;
what it damages is measured with the group alone in that form. Plans take the steps of least damage
per time saved first (the greedy solution of a multiple-choice knapsack problem), as many as the
limit allows for all together. What decides between the few plans that are left is measured in
bundles, as they ship: the divergence of their answers, and their latency.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from rarefy.exporters import time_products
from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.model.quantization.plan import Calibration, LinearPlan, Plan
from rarefy.pipeline.stage import Context
from rarefy.pipeline.tasks.task import Row
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import Embeddings, Isa, Method, first_cpu_target
from rarefy.stages.common.bisection import most_within
from rarefy.stages.common.resume import Notes
from rarefy.stages.quantization import ranges, smoothing
from rarefy.stages.quantization.bundles import FLOAT, Finalists
from rarefy.stages.quantization.sensitivity import Sensitivity

log = logging.getLogger(__name__)

METHODS: Final[tuple[Method, ...]] = get_args(Method)
FEW, MORE = 64, 256
"""Development rows on which a group alone is tried, and a whole plan."""
PARTS = (1.0, 0.25, 0.0625)
"""Shares of what the vocabulary leaves of the limit, for which a plan is made: the slower ones are
nearer to float."""
NEAR = 0.5
"""Of the limit: a plan of which more is simulated may be beyond it as a bundle."""
FINALISTS = 4
SCHEMA = "rarefy.search/2"

Layers = dict[str, LinearPlan]
Forms = tuple[str, ...]
"""The form of each group."""


@dataclass(eq=False)
class Candidate:
    """A plan that was tried.

    Attributes:
        forms: the form of each group.
        layers: the layers in int8.
        damage: the simulated quantization error; of a finalist, its bundle's.
        ms: the median latency as a difference to float's, from the table of matmuls; at the end
            the latency itself, which is measured for finalists, and scaled from the finalists' for
            others.
        interval: the latency, if it was measured.
    """

    forms: Forms
    layers: Layers
    damage: float
    ms: float
    interval: Interval | None = None

    def record(self, front: bool, chosen: bool) -> dict[str, Any]:
        """Return the plan as JSON, without ranges and factors."""
        interval = None
        if self.interval is not None:
            interval = [self.interval.low, self.interval.high]
        groups = {form: self.forms.count(form) for form in sorted(set(self.forms))}
        return {
            "ms": self.ms,
            "interval": interval,
            "damage": self.damage,
            "front": front,
            "chosen": chosen,
            "groups": groups,
        }


@dataclass(frozen=True)
class SearchResult:
    """The plan that a search chose, all that it tried, and float's latency in ms."""

    chosen: Candidate
    tried: list[Candidate]
    calibration: Calibration
    float_ms: Interval
    seconds: float

    def record(self, limit: float) -> dict[str, Any]:
        """Return everything that was tried as JSON, the fastest first.

        ``front``: no other plan is both faster and nearer to float (the Pareto front).
        """
        rows, least = [], float("inf")
        for plan in sorted(self.tried, key=lambda plan: (plan.ms, plan.damage)):
            rows.append(plan.record(plan.damage < least, plan is self.chosen))
            least = min(least, plan.damage)
        return {"schema": SCHEMA, "limit": limit, "seconds": self.seconds, "plans": rows}


@dataclass
class Search:
    """One search.

    Attributes:
        context: the run's context.
        network: the float network.
        tokenizer: its tokenizer.
        names: the layers that may be int8.
        rows: training rows to calibrate on.
        isa: the width of weights.
        limit: the largest quantization error.
        seconds: after this time no more groups or bundles are tried, and what was not tried stays
            float. Half of it is kept for the bundles.
        embeddings: what the vocabulary is stored in.
        tried: the plans that were tried, by their forms.
        notes: the measurements, which outlast a kill.
    """

    context: Context
    network: Any
    tokenizer: Any
    names: Sequence[str]
    rows: Sequence[Row]
    isa: Isa
    limit: float
    seconds: float
    embeddings: Embeddings
    tried: dict[Forms, Candidate] = field(default_factory=dict)
    notes: Notes = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock; after a kill, it goes on."""
        self.notes = Notes(self.context.work / "search.json")

    def run(self) -> SearchResult:
        """Return the fastest plan within the limit; of those equally fast, that of least damage."""
        exact = self._all(FLOAT)
        self.tried[exact] = Candidate(exact, {}, 0.0, 0.0)
        fastest = tuple(max(saved, key=saved.__getitem__) for saved in self.savings)
        self._try(fastest)
        for form in self.forms:
            self._try(self._all(form))
        if self.tried[fastest].damage > NEAR * self.limit:
            self._try_within_limit()
        return self._measure()

    def _try_within_limit(self) -> None:
        """Try the plans that take as many steps as shares of the limit allow."""
        steps = self._steps()
        tables = self.notes.get("vocabulary", lambda: self.more.damage({}))

        def damage(count: int) -> float:
            return self._try(self._after(steps[:count])).damage

        for part in PARTS:
            limit = tables + part * (self.limit - tables)
            most_within(limit, len(steps), damage)

    # What there is to choose from

    @cached_property
    def groups(self) -> list[list[str]]:
        """The layers of each group, in the order of the forward pass."""
        return smoothing.groups(self.network, self.names, self.rows[0])

    @cached_property
    def forms(self) -> dict[str, Layers]:
        """All layers in each form of int8."""
        plain = self._plain
        network, progress = self.network, self.context.progress
        factors = smoothing.factors(network, self.groups, self.rows, self.isa, progress)
        self.notes.save()
        smooth = {}
        for name, layer in plain.items():
            smooth[name] = layer.model_copy(update={"factors": factors.get(name)})
        moved = ranges.histograms(network, self.names, self.rows, progress, factors)
        self.notes.save()
        static = ranged(plain, self._histograms, self.calibration)
        static_smooth = ranged(smooth, moved, self.calibration)
        return {
            "dynamic": plain,
            "static": static,
            "dynamic smooth": smooth,
            "static smooth": static_smooth,
        }

    @cached_property
    def savings(self) -> list[dict[str, float]]:
        """What each form saves of each group's time, in ms a call; float saves nothing."""
        lengths = [len(row["input_ids"]) for row in self._dev(MORE)]
        tokens = int(np.median(lengths))
        target = first_cpu_target(self.context.targets)
        by_group = []
        with exclusive.measuring(exclusive.noted(self.context.progress)):
            for group in self.groups:
                self.context.progress(
                    len(by_group), len(self.groups), "timing matrix multiplications"
                )
                ms = self._ms(group, tokens, target.threads)
                by_group.append({form: ms[FLOAT] - ms[form] for form in ms})
        return by_group

    def _ms(self, group: Sequence[str], tokens: int, threads: int) -> dict[str, float]:
        """Return the time in ms of a group's products in each form."""
        layers = [self.network.get_submodule(name) for name in group]
        outputs = [len(layer.weight) for layer in layers]
        inputs = layers[0].weight.shape[1]
        forms: dict[str, LinearPlan | None] = {FLOAT: None}
        for form, plans in self.forms.items():
            forms[form] = plans[group[0]]
        smooth = forms["dynamic smooth"]
        divided = "divided" if smooth and smooth.factors else "plain"
        key = f"ms of {divided} {inputs} × {outputs}, {tokens} tokens, {threads} threads"

        def measure() -> dict[str, float]:
            return time_products.milliseconds(inputs, outputs, tokens, forms, threads)

        ms: dict[str, float] = self.notes.get(key, measure)
        return ms

    @cached_property
    def _plain(self) -> Layers:
        return {name: LinearPlan(precision="int8") for name in self.names}

    @cached_property
    def _histograms(self) -> dict[str, ranges.Histogram]:
        return ranges.histograms(self.network, self.names, self.rows, self.context.progress)

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration that does least damage if all layers are static."""

        def damage(how: Calibration) -> float:
            layers = ranged(self._plain, self._histograms, how)
            return self.few.damage(layers)

        damages = {}
        for method in METHODS:
            how = Calibration(method=method, rows=len(self.rows))
            key = f"all static by {method}"
            damages[how] = self.notes.get(key, lambda how=how: damage(how))
        return min(damages, key=damages.__getitem__)

    # Damage

    @cached_property
    def few(self) -> Sensitivity:
        return Sensitivity(self.context.task, self.network, self._dev(FEW), self.isa)

    @cached_property
    def more(self) -> Sensitivity:
        """What tries whole plans, with the vocabulary as they have it."""
        more = Sensitivity(self.context.task, self.network, self._dev(MORE), self.isa)
        more.embeddings = self.embeddings
        return more

    def _dev(self, count: int) -> list[Row]:
        return ranges.rows(self.context, self.tokenizer, "dev", count)

    def _try(self, forms: Forms) -> Candidate:
        """Return a plan with its simulated damage."""
        if forms not in self.tried:
            layers = self._layers(forms)
            self.context.progress(0, 1, f"trying {len(layers)} layers in int8 together")
            damage = self.notes.get(" ".join(forms), lambda: self.more.damage(layers))
            saved = []
            for savings, form in zip(self.savings, forms, strict=True):
                saved.append(savings[form])
            self.tried[forms] = Candidate(forms, layers, damage, -sum(saved))
        return self.tried[forms]

    def _steps(self) -> list[tuple[int, str]]:
        """Return the changes of a group's form, those of least damage per time saved first."""
        slopes = []
        for group, options in enumerate(self._options()):
            for slope, form in hull(options):
                slopes.append((slope, group, form))
        slopes.sort(key=lambda entry: entry[0])
        return [(group, form) for _, group, form in slopes]

    def _options(self) -> list[list[tuple[float, float, str]]]:
        """Return ms saved, damage and form of what was tried of each group, while there is time."""
        options: list[list[tuple[float, float, str]]] = [[] for _ in self.groups]
        total, done = len(self.forms) * len(self.groups), 0
        for form, layers_of_form in self.forms.items():
            for group, names in enumerate(self.groups):
                layers = {name: layers_of_form[name] for name in names}
                key = f"group {group} {form}"
                if self.notes.seconds > self.seconds / 2 and key not in self.notes.values:
                    return options
                self.context.progress(done, total, f"trying {names[0]}, {form}")
                damage = self.notes.get(key, lambda layers=layers: self.few.damage(layers))
                saved = self.savings[group][form]
                options[group].append((saved, damage, form))
                done += 1
        return options

    def _after(self, steps: Sequence[tuple[int, str]]) -> Forms:
        """Return the form of each group after some steps from float."""
        forms = [FLOAT for _ in self.groups]
        for group, form in steps:
            forms[group] = form
        return tuple(forms)

    def _all(self, form: str) -> Forms:
        return tuple(form for _ in self.groups)

    def _layers(self, forms: Forms) -> Layers:
        layers = {}
        for form, group in zip(forms, self.groups, strict=True):
            if form == FLOAT:
                continue
            for name in group:
                layers[name] = self.forms[form][name]
        return layers

    # Finalists

    def plan(self, layers: Layers) -> Plan:
        """Return the plan that has these layers in int8."""
        static = {layer.low is not None for layer in layers.values()}
        mode = "dynamic"
        if len(static) == 2:
            mode = "mixed"
        elif static == {True}:
            mode = "static"
        return Plan(
            mode=mode,
            calibration=self.calibration,
            embeddings=self.embeddings if layers else "float",
            linears=layers,
        )

    def _measure(self) -> SearchResult:
        """Build and time the fastest plans; return the result."""
        bundles = Finalists(self.context, self.network, self.tokenizer, isa=self.isa)
        exact = self.tried[self._all(FLOAT)]
        built = {FLOAT: bundles.build(None)}
        self.notes.save()
        chosen = {FLOAT: exact}
        for plan, bundle in self._build(bundles, exact):
            name = " ".join(plan.forms)
            chosen[name], built[name] = plan, bundle
        timed = bundles.time(built)
        self.notes.save()
        if timed.throttled:
            log.warning("quantize: %s, so the plan may not be the fastest", timed.throttled)
        for name, plan in chosen.items():
            plan.interval = timed.percentile(name, 50)
        float_ms = exact.interval
        assert float_ms is not None
        self._scale_ms(list(chosen.values()), float_ms)
        fastest = min(chosen, key=lambda name: chosen[name].ms)
        equal = [name for name in chosen if timed.ratio(name, fastest).low <= 1]
        best = chosen[min(equal, key=lambda name: chosen[name].damage)]
        if not best.layers:
            reason = "is faster than float" if len(chosen) > 1 else "was found"
            log.warning(
                "quantize: no plan within max_joint_damage (%.2g) %s, so all layers and the "
                "vocabulary stay float",
                self.limit,
                reason,
            )
        tried = list(self.tried.values())
        return SearchResult(best, tried, self.calibration, float_ms, self.notes.seconds)

    def _build(self, bundles: Finalists, exact: Candidate) -> Iterator[tuple[Candidate, Path]]:
        """Yield the finalists and their bundles: the fastest plans whose bundles are within limits.

        A plan is within reach up to twice the limit in simulation.
        """
        reachable = [plan for plan in self.tried.values() if plan.damage <= 2 * self.limit]
        reachable.sort(key=lambda plan: plan.ms)
        finalists, seen = 0, list[Layers]()
        for number, plan in enumerate(reachable):
            late = number > 0 and self.notes.seconds > self.seconds  # one is tried in any case
            if late or finalists == FINALISTS or plan is exact:
                return
            self.context.progress(finalists + 1, FINALISTS + 1, "building a finalist")
            if plan.layers in seen:
                continue  # where nothing is smoothed, a smooth form is the same
            seen.append(plan.layers)
            try:
                bundle = bundles.build(self.plan(plan.layers))
            except ModelError:  # its answers are far from PyTorch's
                continue
            finally:
                self.notes.save()
            plan.damage = bundles.damage(bundle)
            if plan.damage <= self.limit:
                finalists += 1
                yield plan, bundle

    def _scale_ms(self, finalists: Sequence[Candidate], float_ms: Interval) -> None:
        """Replace the difference to float of each plan by its latency in ms.

        It is measured for finalists. For others the table's difference is scaled by the median of
        what it was for finalists.
        """
        scales = []
        for plan in finalists:
            if plan.ms and plan.interval:
                difference = plan.interval.value - float_ms.value
                scales.append(difference / plan.ms)
        scale = float(np.median(scales or [1.0]))
        for plan in self.tried.values():
            if plan.interval:
                plan.ms = plan.interval.value
            else:
                plan.ms = float_ms.value + scale * plan.ms


def ranged(layers: Layers, histograms: Mapping[str, ranges.Histogram], how: Calibration) -> Layers:
    """Return the layers with the static ranges that a method chooses."""
    static = {}
    for name, layer in layers.items():
        limits = ranges.choose(histograms[name], how)
        static[name] = layer.model_copy(update=limits._asdict())
    return static


def hull(options: Sequence[tuple[float, float, str]]) -> list[tuple[float, str]]:
    """Return the steps from float through the options, which are (ms saved, damage, form).

    Each step is (damage per ms saved, form). They are the lower convex hull: a form is left out if
    others, or a mix of two, save as much with less damage. So the first number only grows.
    """
    steps: list[tuple[float, str]] = []
    saved, damage = 0.0, 0.0
    while True:
        beyond = []
        for ms, error, form in options:
            if ms > saved:
                slope = (error - damage) / (ms - saved)
                beyond.append((slope, -ms, error, form))
        if not beyond:
            return steps
        slope, negative_ms, damage, form = min(beyond)
        steps.append((slope, form))
        saved = -negative_ms
