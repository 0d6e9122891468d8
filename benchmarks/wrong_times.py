"""Simulated sessions of latency, judged as ``validate`` judges them, for ``wrong_verdicts``.

A call takes what its row takes, times what its process, the session and chance make of it. All
factors are lognormal. Their sizes are those of this project's A/A measurements on quiet machines
(``results/false_alarms.json``): between processes, a ratio of two medians varies by about 1.2 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements, ModelMeasurement
from rarefy.pipeline.measure.stopping import Rule
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict import between_sessions, findings, judge
from rarefy.pipeline.verdict.between_sessions import Spread, Timed
from rarefy.pipeline.verdict.history_numbers import Machine, Past
from rarefy.pipeline.verdict.verdict import BudgetResult

Floats = NDArray[np.float64]

BASELINE = "production"
ROWS, LENGTHS = 200, 0.4
"""Rows that are timed, and the deviation of what they take (of the logarithm, as all are)."""
CALLS, BLOCK = 40, 20
PROCESSES = 5
SHARED, OWN, CHANCE = 0.03, 0.009, 0.03
"""Deviations of a process's speed, of one model's in it, and of a call's."""
STALLS = 0.01
"""The share of calls that something interrupts; they take half as long again on average."""
MANY = 4000
"""Processes that tell the truth."""


@dataclass(frozen=True)
class Setting:
    """Two models on a machine.

    ``factor``: how many times as long the candidate takes. In a share ``slow`` of its processes it
    takes ``slow_factor`` times as long. ``session``: the deviation of what all processes of one
    session share. ``load``: how many times as long all calls take beside other programs.
    """

    factor: float = 1.0
    slow: float = 0.0
    slow_factor: float = 1.0
    session: float = 0.0
    load: float = 1.0
    calls: int = CALLS
    history: int = 0
    """Earlier sessions of the same two models that the history has."""


class Times(NamedTuple):
    """The ms of calls, processes × calls, and the row of each."""

    candidate: Floats
    baseline: Floats
    rows: NDArray[np.int64]


class Session(NamedTuple):
    """One judged session: the outcome of its budget, its value, and how many processes it took."""

    outcome: str
    value: float
    processes: int


def draw(setting: Setting, processes: int, generator: np.random.Generator) -> Times:
    """Return the calls of one session; each process calls the same rows in an order of its own."""
    row_ms = generator.lognormal(math.log(5), LENGTHS, ROWS)
    rows = generator.permuted(np.tile(np.arange(ROWS), (processes, 1)), axis=1)
    rows = rows[:, : setting.calls]
    return _times(setting, row_ms[rows], rows, generator)


def _times(
    setting: Setting, row_ms: Floats, rows: NDArray[np.int64], generator: np.random.Generator
) -> Times:
    processes = len(row_ms)
    shared = row_ms * generator.lognormal(0, SHARED, (processes, 1)) * setting.load
    factor = setting.factor * generator.lognormal(0, setting.session)
    is_slow = generator.random((processes, 1)) < setting.slow
    factors = np.where(is_slow, factor * setting.slow_factor, factor)
    baseline = shared * _chance(row_ms.shape, generator)
    candidate = shared * factors * _chance(row_ms.shape, generator)
    return Times(candidate, baseline, rows)


def _chance(shape: tuple[int, ...], generator: np.random.Generator) -> Floats:
    own = generator.lognormal(0, OWN, (shape[0], 1))
    stalls = np.where(generator.random(shape) < STALLS, generator.exponential(0.5, shape), 0)
    return own * generator.lognormal(0, CHANCE, shape) * (1 + stalls)


@cache
def truth(setting: Setting, percentile: int) -> tuple[float, float]:
    """Return a percentile of the candidate's calls in ms, and its ratio to the baseline's.

    They are of calls in many processes, each of a row of its own, in a session like most.
    """
    generator = np.random.default_rng(percentile)
    row_ms = generator.lognormal(math.log(5), LENGTHS, (MANY, CALLS))
    usual = Setting(setting.factor, setting.slow, setting.slow_factor)
    times = _times(usual, row_ms, np.zeros(0, int), generator)
    ours = float(np.percentile(times.candidate, percentile))
    return ours, ours / float(np.percentile(times.baseline, percentile))


def judged(
    setting: Setting, budget: Budget, generator: np.random.Generator, processes: int = PROCESSES
) -> Session:
    """Draw a session, stop it when the product would, and judge its budget."""
    target = Target()
    models = {name: ModelMeasurement(digest=name, size=1) for name in (CANDIDATE, BASELINE)}
    measured = Measurements(
        machine={}, task="text-classification", labels=[], truth=[], models=models, latency={}
    )
    clear = judge.stopping_rule([budget], target, measured)
    looks = Rule(processes, math.inf, clear).looks
    times = draw(setting, looks[-1], generator)
    for count in looks:
        latency = _latency(times, count, len(looks), is_busy=setting.load > 1)
        if clear is not None and clear(latency):
            break
    measured.latency[target.name] = latency
    result = findings.judge_one(budget, target.name, measured)
    if setting.history:
        result = between_sessions.check(result, _spreads(setting, result, generator))
    value = math.nan if result.value is None else result.value
    return Session(result.outcome, value, count)


def _spreads(
    setting: Setting, result: BudgetResult, generator: np.random.Generator
) -> dict[Timed, Spread]:
    """Return what earlier sessions of a regression's two models say of how much sessions differ."""
    machine = Machine("here", {})
    pasts = []
    for number in range(setting.history):
        times = draw(setting, PROCESSES, generator)
        ratio = np.median(times.candidate) / np.median(times.baseline)
        earlier = result.model_copy(update={"value": float(ratio) - 1})
        past = Past(
            id=number,
            time="",
            recipe="",
            command="",
            bundle="",
            outcome="pass",
            evidence=[],
            commit=None,
            machine=machine,
            again=False,
            budgets=[earlier],
        )
        pasts.append(past)
    return between_sessions.spreads(pasts, machine.digest)


def _latency(times: Times, processes: int, looks: int, *, is_busy: bool) -> Latency:
    """Return the first processes of a session as ``validate`` records them."""
    candidate = times.candidate[:processes].tolist()
    baseline = times.baseline[:processes].tolist()
    return Latency(
        samples={CANDIDATE: candidate, BASELINE: baseline},
        called=times.rows[:processes].tolist(),
        block=BLOCK,
        looks=looks,
        busy=["other programs ran"] if is_busy else [],
        disturbed=processes if is_busy else 0,
    )
