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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from exporters import products
from pipeline.measure import alone
from pipeline.model.quantization import Calibration, Embeddings, LinearPlan, Method, Plan
from pipeline.stage import Context
from pipeline.stage.tasks.encoder import Row
from pipeline.terms.errors import ModelError
from pipeline.terms.interval import Interval
from pipeline.terms.vocabulary import Isa
from stages import ranges, smoothing
from stages.bisection import most_within
from stages.finalists import FLOAT, Finalists
from stages.notes import Notes
from stages.sensitivity import Sensitivity

log = logging.getLogger(__name__)

METHODS: tuple[Method, ...] = ("min-max", "percentile", "entropy", "mse")
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
class Tried:
    """A plan that was tried.

    ``damage``: simulated; of a finalist, its bundle's. ``ms``: the median latency as a difference
    to float's, from the table of products; at the end the latency itself, which is measured for
    finalists, with its ``interval``, and scaled from the finalists' for others.
    """

    forms: Forms
    layers: Layers
    damage: float
    ms: float
    interval: Interval | None = None

    def record(self, front: bool, chosen: bool) -> dict[str, Any]:
        """Return the plan as JSON, without ranges and factors."""
        return {
            "ms": self.ms,
            "interval": None if self.interval is None else [self.interval.low, self.interval.high],
            "damage": self.damage,
            "front": front,
            "chosen": chosen,
            "groups": {form: self.forms.count(form) for form in sorted(set(self.forms))},
        }


@dataclass(frozen=True)
class Found:
    """What a search found: the plan, all that were tried, and float's latency in ms."""

    chosen: Tried
    tried: list[Tried]
    calibration: Calibration
    float_ms: Interval
    seconds: float

    def record(self, limit: float) -> dict[str, Any]:
        """Return everything that was tried as JSON, the fastest first.

        ``front``: no other plan is both faster and nearer to float (the Pareto front).
        """
        ordered = sorted(self.tried, key=lambda each: (each.ms, each.damage))
        rows, least = [], float("inf")
        for plan in ordered:
            rows.append(plan.record(plan.damage < least, plan is self.chosen))
            least = min(least, plan.damage)
        return {"schema": SCHEMA, "limit": limit, "seconds": self.seconds, "plans": rows}


@dataclass
class Search:
    """One search. ``names``: the layers that may be int8; ``rows``: training rows to calibrate on.

    ``limit``: the most damage; ``seconds``: after this time no more groups or bundles are tried,
    and what was not tried stays float. Half of it is kept for the bundles.
    """

    context: Context
    network: Any
    tokenizer: Any
    names: Sequence[str]
    rows: Sequence[Row]
    isa: Isa
    limit: float
    seconds: float
    percentile: float
    embeddings: Embeddings
    tried: dict[Forms, Tried] = field(default_factory=dict)
    notes: Notes = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock; after a kill, it goes on."""
        self.notes = Notes(self.context.work / "search.json")

    def run(self) -> Found:
        """Return the fastest plan within the limit; of those equally fast, that of least damage."""
        self.tried[self._all(FLOAT)] = Tried(self._all(FLOAT), {}, 0.0, 0.0)
        quickest = tuple(max(saved, key=saved.__getitem__) for saved in self.savings)
        for forms in (quickest, *(self._all(form) for form in self.forms)):
            self._try(forms)
        if self.tried[quickest].damage > NEAR * self.limit:
            steps = self._steps()
            alone = self.notes.get("vocabulary", lambda: self.more.damage({}))
            for part in PARTS:
                most_within(
                    alone + part * (self.limit - alone),
                    len(steps),
                    lambda count: self._try(self._after(steps[:count])).damage,
                )
        return self._measured()

    # What there is to choose from

    @cached_property
    def groups(self) -> list[list[str]]:
        """The layers of each group, in the order of the forward pass."""
        return smoothing.groups(self.network, self.names, self.rows[0])

    @cached_property
    def forms(self) -> dict[str, Layers]:
        """All layers in each form of int8."""
        plain = self._plain
        factors = smoothing.factors(
            self.network, self.groups, self.rows, self.isa, self.context.progress
        )
        self.notes.save()
        smooth = {
            name: layer.model_copy(update={"factors": factors.get(name)})
            for name, layer in plain.items()
        }
        moved = ranges.histograms(
            self.network, self.names, self.rows, self.context.progress, factors
        )
        self.notes.save()
        return {
            "dynamic": plain,
            "static": ranged(plain, self._histograms, self.calibration),
            "dynamic smooth": smooth,
            "static smooth": ranged(smooth, moved, self.calibration),
        }

    @cached_property
    def savings(self) -> list[dict[str, float]]:
        """What each form saves of each group's time, in ms a call; float saves nothing."""
        tokens = int(np.median([len(row["input_ids"]) for row in self._dev(MORE)]))
        threads = next(each.threads for each in self.context.targets if each.provider == "cpu")
        found = []
        with alone.measuring(alone.noted(self.context.progress)):
            for at, group in enumerate(self.groups):
                self.context.progress(at, len(self.groups), "timing products")
                ms = self._ms(group, tokens, threads)
                found.append({form: ms[FLOAT] - ms[form] for form in ms})
        return found

    def _ms(self, group: Sequence[str], tokens: int, threads: int) -> dict[str, float]:
        """Return the time in ms of a group's products in each form."""
        weights = [self.network.get_submodule(name).weight for name in group]
        outputs, inputs = [len(weight) for weight in weights], weights[0].shape[1]
        forms = {FLOAT: None} | {form: layers[group[0]] for form, layers in self.forms.items()}
        divided = "divided" if self.forms["dynamic smooth"][group[0]].factors else "plain"
        ms: dict[str, float] = self.notes.get(
            f"ms of {divided} {inputs} × {outputs}, {tokens} tokens, {threads} threads",
            lambda: products.milliseconds(inputs, outputs, tokens, forms, threads),
        )
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
        damages = {}
        for method in METHODS:
            how = Calibration(method=method, percentile=self.percentile, rows=len(self.rows))
            damages[how] = self.notes.get(
                f"all static by {method}",
                lambda how=how: self.few.damage(ranged(self._plain, self._histograms, how)),
            )
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

    def _try(self, forms: Forms) -> Tried:
        """Return a plan with its simulated damage."""
        if forms not in self.tried:
            layers = self._layers(forms)
            self.context.progress(0, 1, f"trying {len(layers)} layers in int8 together")
            damage = self.notes.get(" ".join(forms), lambda: self.more.damage(layers))
            saved = sum(found[form] for found, form in zip(self.savings, forms, strict=True))
            self.tried[forms] = Tried(forms, layers, damage, -saved)
        return self.tried[forms]

    def _steps(self) -> list[tuple[int, str]]:
        """Return the changes of a group's form, those of least damage per time saved first."""
        options: list[list[tuple[float, float, str]]] = [[] for _ in self.groups]
        every = [(at, form) for form in self.forms for at in range(len(self.groups))]
        for done, (at, form) in enumerate(every):
            layers = {name: self.forms[form][name] for name in self.groups[at]}
            key = f"group {at} {form}"
            if self.notes.seconds > self.seconds / 2 and key not in self.notes.values:
                break
            self.context.progress(done, len(every), f"trying {self.groups[at][0]}, {form}")
            damage = self.notes.get(key, lambda layers=layers: self.few.damage(layers))
            options[at].append((self.savings[at][form], damage, form))
        slopes = [
            (slope, at, form) for at, given in enumerate(options) for slope, form in hull(given)
        ]
        return [(at, form) for _, at, form in sorted(slopes, key=lambda each: each[0])]

    def _after(self, steps: Sequence[tuple[int, str]]) -> Forms:
        forms = [FLOAT for _ in self.groups]
        for at, form in steps:
            forms[at] = form
        return tuple(forms)

    def _all(self, form: str) -> Forms:
        return tuple(form for _ in self.groups)

    def _layers(self, forms: Forms) -> Layers:
        return {
            name: self.forms[form][name]
            for form, group in zip(forms, self.groups, strict=True)
            if form != FLOAT
            for name in group
        }

    # Finalists

    def plan(self, layers: Layers) -> Plan:
        """Return the plan that has these layers in int8."""
        fixed = {layer.low is not None for layer in layers.values()}
        return Plan(
            mode="mixed" if len(fixed) == 2 else "static" if fixed == {True} else "dynamic",
            calibration=self.calibration,
            embeddings=self.embeddings if layers else "float",
            linears=layers,
        )

    def _measured(self) -> Found:
        """Build and time the fastest plans; return what was found."""
        bundles = Finalists(self.context, self.network, self.tokenizer, isa=self.isa)
        exact = self.tried[self._all(FLOAT)]
        chosen = {FLOAT: exact}
        built, seen = {FLOAT: bundles.build(None)}, list[Layers]()
        self.notes.save()
        within = [each for each in self.tried.values() if each.damage <= 2 * self.limit]
        for number, plan in enumerate(sorted(within, key=lambda each: each.ms)):
            late = number > 0 and self.notes.seconds > self.seconds  # one is tried in any case
            if late or len(built) > FINALISTS or plan is exact:
                break
            self.context.progress(len(built), FINALISTS + 1, "building a finalist")
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
        pairs = [(plan.ms, plan.interval) for plan in chosen.values() if plan.ms]
        scale = np.median([(at.value - float_ms.value) / ms for ms, at in pairs if at] or [1.0])
        for plan in self.tried.values():
            guess = float_ms.value + float(scale) * plan.ms
            plan.ms = plan.interval.value if plan.interval else guess
        fastest = min(chosen, key=lambda name: chosen[name].ms)
        equal = [name for name in chosen if timed.ratio(name, fastest).low <= 1]
        best = min(equal, key=lambda name: chosen[name].damage)
        if not chosen[best].layers:
            log.warning(
                "quantize: no plan within max_joint_damage (%.2g) %s, so all layers and the "
                "vocabulary stay float",
                *(self.limit, "is faster than float" if len(chosen) > 1 else "was found"),
            )
        tried = list(self.tried.values())
        return Found(chosen[best], tried, self.calibration, float_ms, self.notes.seconds)


def ranged(layers: Layers, histograms: Mapping[str, ranges.Histogram], how: Calibration) -> Layers:
    """Return the layers with the static ranges that a method chooses."""
    return {
        name: layer.model_copy(update=ranges.choose(histograms[name], how)._asdict())
        for name, layer in layers.items()
    }


def hull(options: Sequence[tuple[float, float, str]]) -> list[tuple[float, str]]:
    """Return the steps from float through the options, which are (ms saved, damage, form).

    Each step is (damage per ms saved, form). They are the lower convex hull: a form is left out if
    others, or a mix of two, save as much with less damage. So the first number only grows.
    """
    steps, saved, damage = list[tuple[float, str]](), 0.0, 0.0
    while True:
        beyond = [each for each in options if each[0] > saved]
        if not beyond:
            return steps
        slope, more, worse, form = min(
            ((other - damage) / (ms - saved), -ms, other, form) for ms, other, form in beyond
        )
        steps.append((slope, form))
        saved, damage = -more, worse
