"""Simulated eval rows, judged as ``validate`` judges them, for ``wrong_verdicts``.

Two classifiers of two labels answer the same rows. The reference is right on nine of ten.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.measurements import CANDIDATE, Linear, Measurements, ModelMeasurement
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.task import groups_of_blocks
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.verdict import findings

Bools = NDArray[np.bool_]

RIGHT = 0.9
"""The reference's accuracy."""
DIFFER = 0.06
"""The share of rows on which only one of two models is right."""
CLOSE = 0.012
"""The same of two releases."""
MARGIN = 0.01
CERTAIN = np.eye(2)
ANCHOR, LAST = "anchor", "production"


def pair(drop: float, rows: int, generator: np.random.Generator) -> tuple[Bools, Bools]:
    """Return which rows the candidate and the reference have right, with a true drop."""
    gains, losses = (DIFFER - drop) / 2, (DIFFER + drop) / 2
    shares = [RIGHT - losses, gains, losses, 1 - RIGHT - gains]
    kinds = generator.choice(4, rows, p=shares)
    return np.isin(kinds, (0, 1)), np.isin(kinds, (0, 2))


def drop_outcome(
    ours: Bools, theirs: dict[str, Bools], margin: float, texts: list[str], groups: list[str] | None
) -> dict[str, str]:
    """Judge ``max_drop`` against each reference; return reference -> outcome.

    Args:
        ours: Which rows the candidate has right.
        theirs: Which rows each reference has right.
        margin: The drop that is allowed.
        texts: Of the rows.
        groups: The rows' values of ``data.group``; None without it.
    """
    labels = [0] * len(ours)
    split = Split("eval", "eval", "", texts, None, labels, groups=groups)
    outcomes = {}
    measured = _measured(ours, theirs)
    measured.groups = groups_of_blocks(TEXT_CLASSIFICATION, split)
    for name in theirs:
        budget = Budget(metric="accuracy", max_drop=margin, against=name)
        outcomes[name] = findings.judge_one(budget, None, measured).outcome
    return outcomes


def _measured(ours: Bools, theirs: dict[str, Bools]) -> Measurements:
    models = {}
    for name, right in {CANDIDATE: ours, **theirs}.items():
        models[name] = ModelMeasurement(digest=name, size=1, answers=_answers(right))
    return Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * len(ours),
        models=models,
        latency={},
    )


def _answers(right: Bools) -> list[list[float]]:
    answers: list[list[float]] = CERTAIN[1 - right.astype(int)].tolist()
    return answers


def of_rows(generator: np.random.Generator, rows: int = 1000) -> str:
    """Judge a true drop of the margin on independent rows."""
    ours, theirs = pair(MARGIN, rows, generator)
    return _alone(ours, theirs, MARGIN, list(map(str, range(rows))), None)


def of_clusters(generator: np.random.Generator, *, named: bool) -> str:
    """Judge a true drop of the margin on a hundred clusters of ten rows that are alike.

    ``named``: whether ``data.group`` names them.
    """
    clusters, size = 100, 10
    kept, differs = pair(MARGIN, clusters, generator)
    ours, theirs = np.repeat(kept, size), np.repeat(differs, size)
    own = generator.random(clusters * size) < 0.3  # rows that do not do as their cluster does
    fresh_ours, fresh_theirs = pair(MARGIN, clusters * size, generator)
    ours, theirs = np.where(own, fresh_ours, ours), np.where(own, fresh_theirs, theirs)
    names = np.repeat(np.arange(clusters), size).astype(str).tolist()
    texts = list(map(str, range(clusters * size)))
    return _alone(ours, theirs, MARGIN, texts, names if named else None)


def of_copies(generator: np.random.Generator) -> str:
    """Judge a true drop of 5 points on twenty rows, each a hundred times."""
    drop = 0.05
    ours, theirs = pair(drop, 20, generator)
    texts = [str(row) for row in range(20) for _ in range(100)]
    return _alone(np.repeat(ours, 100), np.repeat(theirs, 100), drop, texts, None)


def best_of(candidates: int, generator: np.random.Generator, rows: int = 1000) -> str:
    """Judge the best of some candidates, each of which has a true drop of the margin."""
    _, theirs = pair(MARGIN, rows, generator)
    tried = []
    for _ in range(candidates):
        loses = generator.random(rows) < (DIFFER + MARGIN) / 2 / RIGHT
        wins = generator.random(rows) < (DIFFER - MARGIN) / 2 / (1 - RIGHT)
        tried.append(np.where(theirs, ~loses, wins))
    best = max(tried, key=np.sum)
    return _alone(best, theirs, MARGIN, list(map(str, range(rows))), None)


def creep(generator: np.random.Generator, *, anchored: bool, rows: int = 1000) -> float:
    """Return the points that ten releases lose, each truly half a point worse than the last.

    Each has fresh eval rows and a margin of one point. A release that does not pass is not made.
    ``anchored``: whether it is also compared with the first one.
    """
    lost, step = 0.0, 0.005
    texts = list(map(str, range(rows)))
    for _ in range(10):
        first = generator.random(rows) < RIGHT
        last = _after(first, RIGHT, lost, generator) if lost else first
        ours = _after(last, RIGHT - lost, step, generator)
        references = {LAST: last}
        if anchored:
            references[ANCHOR] = first
        outcomes = drop_outcome(ours, references, MARGIN, texts, None)
        if all(outcome == "pass" for outcome in outcomes.values()):
            lost += step
    return 100 * lost


def _after(right: Bools, share: float, drop: float, generator: np.random.Generator) -> Bools:
    """Return what a model has right that is worse than another by ``drop``, on its rows.

    ``share``: the accuracy of the other.
    """
    differ = max(CLOSE, drop)
    loses = generator.random(len(right)) < (differ + drop) / 2 / share
    wins = generator.random(len(right)) < (differ - drop) / 2 / (1 - share)
    return np.where(right, ~loses, wins)


def of_linear(lead: float, generator: np.random.Generator, rows: int = 1000) -> str:
    """Judge ``linear: true`` for a model that is truly better than the linear one by ``lead``.

    The two disagree on twice as many rows as a model and its teacher.
    """
    gains, losses = DIFFER + lead / 2, DIFFER - lead / 2
    shares = [RIGHT - losses, gains, losses, 1 - RIGHT - gains]
    kinds = generator.choice(4, rows, p=shares)
    measured = _measured(np.isin(kinds, (0, 1)), {})
    linear = _answers(np.isin(kinds, (0, 2)))
    measured.linear = Linear(size=1, seconds=1, rows=rows, milliseconds=[1], answers=linear)
    result = findings.judge_linear(measured)
    assert result is not None
    return result.outcome


def _alone(
    ours: Bools, theirs: Bools, margin: float, texts: list[str], groups: list[str] | None
) -> str:
    return drop_outcome(ours, {LAST: theirs}, margin, texts, groups)[LAST]
