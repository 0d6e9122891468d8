"""Inject harm that a mean hides, and none, and judge both with the functions that judge a run.

    python -m benchmarks.gates            all parts
    python -m benchmarks.gates cells      one part
    python -m benchmarks.gates --home DIR continues from there

Each part measures its rows and makes its claims of them; those of a part that is not named are kept
in the record. A claim holds if the Wilson interval of the rate is on the right side of the target.

``cells``: budgets on each label. The reference has 90 % of each label's rows right, and 8 % of the
rows are right for one of the two models alone, as ``rarefy plan`` assumes. About 40 minutes of one
core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import HERE, Claim, finish, here, is_at_least, is_at_most, worst
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.tasks.task import LabelTable
from rarefy.pipeline.terms.budget import EVERY, Budget
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.verdict import cell_scores, cells, power
from rarefy.pipeline.verdict.power import DISAGREEMENT, REFERENCE
from rarefy.pipeline.verdict.verdict import BudgetResult

SEED: Final = 0
TRIALS: Final = 2000
MORE: Final = 2 * TRIALS
"""Where the rate is close to its limit, as Holm's correction uses up nearly all of 5 %."""
HARM: Final = 0.10
LABELS: Final = 10
CELLS: Final = 20
MARGINS: Final = (0.01, 0.02, 0.03, 0.05)
ROWS: Final = {50: TRIALS, 1000: MORE}
"""Rows of each cell in families of equal students, and the trials."""


class Labels:
    """Rows that have one label each, and two models' answers, drawn anew in each trial."""

    def __init__(self, rows: int, drops: list[float]) -> None:
        """``rows``: of each label. ``drops``: of the candidate's true recall of each label."""
        self.rows = rows
        self.drops = drops
        self.names = [f"label{number}" for number in range(len(drops))]

    def draw(self, generator: np.random.Generator) -> LabelTable:
        """Return the labels that the models give to rows drawn from the population.

        A row that is missed gets one of the other labels.
        """
        drop = np.repeat(self.drops, self.rows)
        disagreement = np.maximum(DISAGREEMENT, np.abs(drop))
        lost = (disagreement + drop) / 2
        gained = (disagreement - drop) / 2
        chance = generator.random(len(drop))
        theirs_alone = chance < lost
        ours_alone = (chance >= lost) & (chance < lost + gained)
        both = (chance >= lost + gained) & (chance < gained + REFERENCE)
        true = np.repeat(np.arange(len(self.names)), self.rows)
        sides = []
        for right in (both | ours_alone, both | theirs_alone):
            other = generator.integers(1, len(self.names), len(true))
            answer = np.where(right, true, (true + other) % len(self.names))
            sides.append(self._marks(answer))
        return LabelTable(self.names, self._marks(true), sides)

    def _marks(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        return labels[:, None] == np.arange(len(self.names))


def judge(budget: Budget, table: LabelTable) -> BudgetResult:
    """Judge a budget on each label as ``validate`` does."""
    if budget.against is None:
        table = table._replace(predicted=table.predicted[:1])
    names = list(table.names) if budget.label == EVERY else [str(budget.label)]
    found = cell_scores.of_table(budget.metric, table, names)
    return cells.judge_cells(budget, None, found)


def simulate(budget: Budget, labels: Labels, trials: int, what: str) -> dict[str, Any]:
    """Return how often a budget passes, fails and is inconclusive.

    Args:
        budget: On each label.
        labels: What is drawn in each trial.
        trials: Their number.
        what: The name of the setting. If it is harm, a budget on all rows is judged as well.
    """
    generator = np.random.default_rng([SEED, labels.rows, len(labels.names)])
    outcomes = Counter[str]()
    found = accurate = 0
    mean = Budget(metric="recall", label="all", max_drop=budget.limit, against="reference")
    harmed = labels.names[int(np.argmax(labels.drops))]
    for _ in range(trials):
        table = labels.draw(generator)
        result = judge(budget, table)
        outcomes[result.outcome] += 1
        first = result.cells[0]
        found += first.outcome == "fail" and first.name == harmed
        if "harm" in what:
            accurate += _of_all(mean, table) == "pass"
    return {
        "what": what,
        "metric": budget.metric,
        "form": budget.form,
        "limit": budget.limit,
        "cells": len(labels.names),
        "rows of a cell": labels.rows,
        "trials": trials,
        **{outcome: outcomes[outcome] for outcome in ("pass", "fail", "inconclusive")},
        "harmed cell failed": found,
        "mean passed": accurate,
    }


def _of_all(budget: Budget, table: LabelTable) -> str:
    """Return the outcome of a budget on all rows together, which is one on their accuracy."""
    true = table.true.any(axis=1)[:, None]
    right = [(table.true & side).any(axis=1)[:, None] for side in table.predicted]
    found = cell_scores.of_table(budget.metric, LabelTable(["all"], true, right), ["all"])
    return cells.judge_cells(budget, None, found).outcome


def harmed(margin: float) -> dict[str, Any]:
    """Return how one label of ten that loses 10 points is judged, at the rows that a plan wants.

    All others gain as much together, so the mean holds.
    """
    drops = [HARM, *[-HARM / (LABELS - 1)] * (LABELS - 1)]
    budget = Budget(metric="recall", label="*", max_drop=margin, against="reference")
    names = [f"label{number}" for number in range(LABELS)]
    [need] = power.cell_needs([budget], dict.fromkeys(names, 0), {})
    what = "harm" if 3 * margin <= HARM else "harm of two margins"
    return simulate(budget, Labels(need.needed, drops), TRIALS, what)


def equal(metric: str, rows: int, trials: int) -> dict[str, Any]:
    """Return how 20 cells of equal students are judged by "no worse"."""
    budget = Budget(metric=metric, label="*", max_drop=0, against="reference")
    return simulate(budget, Labels(rows, [0.0] * CELLS), trials, "equal")


def at_limit(rows: int) -> dict[str, Any]:
    """Return how 20 cells are judged that all lose exactly what is allowed: none is to fail."""
    budget = Budget(metric="recall", label="*", max_drop=0.02, against="reference")
    return simulate(budget, Labels(rows, [0.02] * CELLS), TRIALS, "all at the limit")


def one_at_limit(rows: int) -> dict[str, Any]:
    """Return how 20 cells are judged of which one loses exactly what is allowed.

    A pass is wrong there, so it may come in 5 % at most.
    """
    budget = Budget(metric="recall", label="*", max_drop=0.05, against="reference")
    drops = [0.05, *[-0.05] * (CELLS - 1)]
    return simulate(budget, Labels(rows, drops), TRIALS, "one at the limit")


def floor_at_limit(rows: int) -> dict[str, Any]:
    """Return how one cell is judged by a floor that is its true recall: a pass is wrong."""
    budget = Budget(metric="recall", label="label0", min=REFERENCE)
    return simulate(budget, Labels(rows, [0.0, 0.0]), TRIALS, "floor at the truth")


def rows_of_cells() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what measures each row of the part ``cells``."""
    rows: dict[str, Callable[[], dict[str, Any]]] = {}
    for margin in MARGINS:
        rows[f"harm-{margin}"] = partial(harmed, margin)
    for count, trials in ROWS.items():
        rows[f"equal-recall-{count}"] = partial(equal, "recall", count, trials)
    for metric in ("precision", "f1"):
        rows[f"equal-{metric}-50"] = partial(equal, metric, 50, TRIALS)
    rows["all-at-limit"] = partial(at_limit, 50)
    rows["one-at-limit"] = partial(one_at_limit, 200)
    for count in (50, 200, 1000):
        rows[f"floor-{count}"] = partial(floor_at_limit, count)
    return rows


def measured(rows: dict[str, Callable[[], dict[str, Any]]], folder: Path) -> list[dict[str, Any]]:
    """Return the rows; those that the folder has are not measured again."""
    results = []
    for name, measure in rows.items():
        path = folder / f"{name}-{TRIALS}-{MORE}-{SEED}.json"
        if not path.is_file():
            path.write_text(json.dumps(measure() | here()))
        results.append(json.loads(path.read_text()))
        print(results[-1], flush=True)
    return results


def claims_of_cells(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what is claimed of the part ``cells``."""
    return [
        _claim(rows, "harm", "harmed cell failed", 0.95, is_at_least),
        _claim(rows, "harm", "mean passed", 0.95, is_at_least),
        _claim(rows, "harm of two margins", "harmed cell failed", 0.95, is_at_least),
        _claim(rows, "equal", "fail", 0.06, is_at_most),
        _claim(rows, "all at the limit", "fail", 0.06, is_at_most),
        _claim(rows, "one at the limit", "pass", 0.06, is_at_most),
        _claim(rows, "floor at the truth", "pass", 0.03, is_at_most),
    ]


def _claim(
    rows: list[dict[str, Any]],
    what: str,
    outcome: str,
    limit: float,
    keeps: Callable[[Interval, float], bool | None],
) -> Claim:
    """Claim that a rate keeps a limit in each of those rows that are of ``what``."""
    holds = []
    shown = []
    for row in rows:
        if row["what"] != what:
            continue
        rate = intervals.wilson(row[outcome], row["trials"])
        holds.append(keeps(rate, limit))
        setting = f"{row['metric']}, {row['limit']:.0%}, {row['rows of a cell']:,} rows"
        shown.append(f"{setting}: {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]")
    word = "at least" if keeps is is_at_least else "at most"
    return Claim(f"{what}: {outcome}", f"{word} {limit:.0%}", "; ".join(shown), worst(holds))


class Part(NamedTuple):
    """What measures the rows of a part, and what is claimed of them."""

    rows: Callable[[], dict[str, Callable[[], dict[str, Any]]]]
    claims: Callable[[list[dict[str, Any]]], list[Claim]]


PARTS: Final[dict[str, Part]] = {"cells": Part(rows_of_cells, claims_of_cells)}


def main() -> int:
    """Measure the parts that are named, or all, and record them with the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--home", type=Path, help="folder of rows, which are measured once")
    options = parser.parse_args()
    named = options.parts or list(PARTS)
    unknown = set(named) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    recorded = _recorded()
    rows, claims = [], []
    with tempfile.TemporaryDirectory(prefix="rarefy-gates-") as temporary:
        folder = options.home or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in PARTS.items():
            of_part = [row for row in recorded if row["part"] == name]
            if name in named:
                of_part = [{"part": name, **row} for row in measured(part.rows(), folder)]
            if of_part:
                rows += of_part
                claims += part.claims(of_part)
    return finish("gates", rows, claims, SEED)


def _recorded() -> list[dict[str, Any]]:
    path = HERE / "results/gates.json"
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


if __name__ == "__main__":
    raise SystemExit(main())
