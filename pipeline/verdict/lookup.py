"""Look up what a budget needs in the measurements, or say in one sentence what is missing."""

from __future__ import annotations

import math

import numpy as np

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements, ModelMeasurement
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.tasks.shared.formulas import Floats
from rarefy.pipeline.tasks.task import count_predictions
from rarefy.pipeline.terms.budget import Budget


class MissingError(Exception):
    """A measurement that the budget needs is missing; the message is the reason."""


def against(budget: Budget, measurements: Measurements) -> str:
    """Return the measured model that a budget compares with."""
    name = measurements.name_of(budget.against or "")
    if name is None or name == CANDIDATE:
        names = ", ".join([*measurements.references, *measurements.aliases]) or "none"
        raise MissingError(f"{budget.against!r} was not measured as a reference; measured: {names}")
    return name


def first_reference(budget: Budget, measurements: Measurements) -> str:
    """Return the model that a budget compares with if it does not say which."""
    if not measurements.references:
        raise MissingError(f"{budget.metric} needs a reference model, but none was measured")
    return measurements.references[0]


def model(measurements: Measurements, name: str) -> ModelMeasurement:
    """Return what was measured of a model."""
    if name not in measurements.models:
        raise MissingError(f"{name} was not measured")
    return measurements.models[name]


def amount(measurements: Measurements, name: str, metric: str) -> float:
    """Return a model's size, memory or parameters."""
    value = getattr(model(measurements, name), metric)
    if value is None:
        raise MissingError(f"{metric} of {name} was not measured")
    return float(value)


def starts(measurements: Measurements, name: str) -> list[float]:
    """Return a model's cold starts in ms."""
    times = model(measurements, name).cold_start
    if not times:
        raise MissingError(f"cold start of {name} was not measured")
    if not all(map(math.isfinite, times)):
        raise MissingError(f"a cold start of {name} is not a finite number")
    return times


def answers(measurements: Measurements, name: str) -> Floats:
    """Return a model's answers, ``(units, columns)``.

    Raises MissingError if one is missing or not finite.
    """
    table = np.asarray(model(measurements, name).answers, dtype=float)
    rows = count_predictions(measurements.scored_by, measurements.truth)
    if table.ndim != 2 or len(table) != rows or not rows:
        raise MissingError(f"{name} has predictions for {len(table)} of {rows} rows")
    finite = np.isfinite(table).all(axis=1)
    broken = int(np.sum(~finite))
    if broken:
        raise MissingError(f"{name} predicted NaN or infinity on {broken} of {rows} rows")
    return table


def timed(measurements: Measurements, target: str | None) -> Latency:
    """Return what was timed on a target."""
    if target is None or target not in measurements.latency:
        names = ", ".join(measurements.latency) or "none"
        raise MissingError(f"target {target!r} was not timed; timed: {names}")
    return measurements.latency[target]


def counted(measurements: Measurements, target: str | None, name: str) -> Throughput:
    """Return the rows a second on a target, of which a model must be.

    Raises MissingError if that was not measured.
    """
    timed = measurements.throughput.get(target or "")
    if timed and name in timed.samples:
        return timed
    raise MissingError(f"the throughput of {name} on {target} was not measured")


def samples(
    latency: Latency, name: str, target: str | None, whole: bool = False, cold: bool = False
) -> list[list[float]]:
    """Return a model's calls in ms; see ``Latency.calls``.

    Raises MissingError if the model was not timed on the target, or a time is not finite.
    """
    calls = latency.calls(name, whole=whole, cold=cold)
    if not calls or not all(calls):
        so = " with cold caches" if cold else ""
        raise MissingError(f"{name} was not timed on {target}{so}")
    for process in calls:
        if not all(map(math.isfinite, process)):
            raise MissingError(f"a timing of {name} on {target} is not a finite number")
    return calls
