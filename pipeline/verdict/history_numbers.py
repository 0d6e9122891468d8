"""Index a verdict's numbers by what they measure, and decide which ones may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rarefy.pipeline.measure import machine
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.outcomes import Outcome, worst
from rarefy.pipeline.verdict.verdict import BudgetResult


class Plain(NamedTuple):
    """A number that is recorded even if no budget uses it; the bounds of an exact one equal it.

    ``latency_p50`` in ms with the interval that the target's sampling allows, ``size`` in bytes,
    ``accuracy`` as a share. The value is None if it could not be computed, for example because
    the model answered NaN.
    """

    metric: str
    target: str | None
    value: float | None
    low: float | None
    high: float | None


def logical_cores(facts: Mapping[str, Any]) -> int | None:
    """Return how many cores a measurement could use; None if it does not say."""
    cores = facts.get("cores")
    count = cores.get("logical") if isinstance(cores, dict) else cores
    return count if isinstance(count, int) else None


@dataclass(frozen=True)
class Machine:
    """The machine and settings of a measurement; numbers compare only if digests are equal."""

    digest: str
    facts: dict[str, Any]

    @property
    def cpu(self) -> str:
        return str(self.facts.get("cpu") or "unknown CPU")

    @property
    def cores(self) -> int | None:
        return logical_cores(self.facts)

    @property
    def runtime(self) -> str | None:
        """The version of onnxruntime."""
        libraries = self.facts.get("libraries") or {}
        version = libraries.get("onnxruntime") or libraries.get("onnxruntime-gpu")
        if version is None:
            return None
        return str(version)


@dataclass(frozen=True)
class Past:
    """A past verdict with its numbers; ``again``: an earlier verdict used the same measurement."""

    id: int
    time: str
    recipe: str
    command: str
    bundle: str | None
    outcome: Outcome
    evidence: list[str]
    commit: str | None
    machine: Machine
    again: bool
    measured: str = ""
    """When its measurements ended; they may be much older than the verdict."""
    plain: list[Plain] = field(default_factory=list)
    budgets: list[BudgetResult] = field(default_factory=list)
    baselines: dict[str, str] = field(default_factory=dict)
    """The tags that it was compared with, and the digests of what they pointed at."""

    @property
    def standing(self) -> Outcome:
        """The outcome, but a pass is inconclusive if the measurement cannot support a verdict."""
        return "inconclusive" if self.evidence and self.outcome == "pass" else self.outcome


class Key(NamedTuple):
    """What one axis of a figure shows: a metric's own value, or one relative form of it.

    ``form`` is None for the metric's own value, which the budgets ``min`` and ``max`` bound.
    ``cell``: the label or slice, as in ``Budget.cell``.
    """

    metric: str
    target: str | None = None
    form: str | None = None
    against: str | None = None
    cell: str | None = None

    @property
    def exact(self) -> bool:
        """Whether the metric is counted, not sampled, and so the same on every machine."""
        return metrics.known(self.metric).exact


@dataclass(frozen=True)
class Reading:
    """One number of one verdict.

    ``outcome``: the worst outcome of its budgets, None if it has none.
    ``limits``: budget form -> limit, the strictest one if several budgets have the same form.
    """

    value: float | None
    low: float | None
    high: float | None
    outcome: Outcome | None = None
    limits: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval of a reading that has a value; both bounds are the value if it is exact."""
        assert self.value is not None
        low, high = self.low, self.high
        if low is None:
            low = self.value
        if high is None:
            high = self.value
        return low, high


def readings(past: Past) -> dict[Key, Reading]:
    """Return a verdict's numbers by what they measure, those recorded without a budget first."""
    by_key = {}
    for number in past.plain:
        key = Key(number.metric, number.target)
        by_key[key] = Reading(number.value, number.low, number.high)
    for budget in past.budgets:
        key = Key(budget.metric, budget.place, cell=budget.cell)
        if budget.form not in ("min", "max"):
            key = key._replace(form=budget.form, against=budget.against)
        reading = by_key.get(key)
        if reading is None:
            reading = Reading(budget.value, budget.low, budget.high)
        by_key[key] = _with_budget(reading, budget)
    return by_key


def _with_budget(reading: Reading, budget: BudgetResult) -> Reading:
    """Return a reading with the limit, outcome and reason of one more budget on it."""
    strictest = max if budget.form.startswith("min") else min
    limit = reading.limits.get(budget.form, budget.limit)
    limits = dict(reading.limits)
    limits[budget.form] = strictest(budget.limit, limit)
    outcome = worst([reading.outcome, budget.outcome])
    reasons = (*reading.reasons, budget.reason)
    return replace(reading, outcome=outcome, limits=limits, reasons=reasons)


def comparable(key: Key, first: Past, second: Past) -> bool:
    """Return whether two verdicts' readings may be compared.

    They may if both come from the same machine or the metric does not depend on the machine. If
    they are relative to a tag, it must have pointed at the same bundle.
    """
    tag = key.against or ""
    if first.baselines.get(tag) != second.baselines.get(tag):
        return False
    return key.exact or first.machine.digest == second.machine.digest


def apart(key: Key, first: Reading, second: Reading) -> bool:
    """Return whether two intervals are disjoint.

    Returns False if a number is missing, or was sampled and has no interval.
    """
    if first.value is None or second.value is None:
        return False
    low, high = first.bounds
    other_low, other_high = second.bounds
    without_interval = low == high or other_low == other_high
    if without_interval and not key.exact:
        return False
    return high < other_low or other_high < low


def changes(before: Machine, after: Machine) -> list[str]:
    """Return the differences of two machines, each as ``fact: before → after``."""
    differences = machine.differences(before.facts, after.facts)
    return [f"{name}: {old} → {new}" for name, (old, new) in differences.items()]
