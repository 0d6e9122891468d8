"""How far each verdict's candidate is from the best release, and from the anchor.

Each release may be a little worse than the one before, within its budget; what they lost together
shows here. Scores compare on the same eval rows only. The difference is of two measured scores and
has no interval: a budget against the anchor has one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rarefy.pipeline.terms import wording
from rarefy.pipeline.terms.metrics import METRICS
from rarefy.pipeline.verdict.history import DATA
from rarefy.pipeline.verdict.history_numbers import Past


class _Score(NamedTuple):
    metric: str
    value: float


def to_best(verdicts: Sequence[Past], bundles: Collection[str]) -> dict[int, float]:
    """Return each verdict's score minus the best of some bundles on the same rows, by its id.

    Args:
        verdicts: of which those on these bundles say how good they are.
        bundles: digests, as of all releases.
    """
    best: dict[tuple[str, ...], float] = {}
    for past in verdicts:
        score = _score(past)
        if score is not None and past.bundle in bundles:
            key = _key(past, score.metric)
            so_far = best.get(key, score.value)
            best[key] = max(so_far, score.value)
    distances = {}
    for past in verdicts:
        score = _score(past)
        if score is None:
            continue
        key = _key(past, score.metric)
        if key in best:
            distances[past.id] = score.value - best[key]
    return distances


def shown(past: Past, distance: float) -> str:
    """Return a distance as text: in percentage points, or in the unit of the score."""
    score = _score(past)
    if score is not None and METRICS[score.metric].unit == "%":
        return f"{wording.signed(distance)} points"
    return f"{distance:+z.3f}"


def _score(past: Past) -> _Score | None:
    """Return the main score; None if the verdict has none."""
    for number in past.plain:
        metric = METRICS.get(number.metric)
        if metric is not None and metric.kind == "score" and number.value is not None:
            return _Score(number.metric, number.value)
    return None


def _key(past: Past, metric: str) -> tuple[str, ...]:
    facts = past.machine.facts
    return metric, str(facts.get(DATA)), str(facts.get("truth"))
