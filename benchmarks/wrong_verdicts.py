"""How often verdicts are wrong where simulation has found ways to a wrong one.

    python -m benchmarks.wrong_verdicts --moment after [--folder FOLDER] [--only ROW …]

Each row of the table is 2,000 simulated sessions or eval splits, with the truth at the limit, that
the functions judge which judge a recipe's budgets. About ten minutes of one core; no model runs.
With ``--folder``, what is simulated is kept there, and only what is missing is simulated.

``--moment`` says what the numbers are of: ``before`` or ``after`` what is done about these rows.
Those of the other moment stay in the record, with their commit. "Before" is measured at the
commit that the record names.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import wrong_rows, wrong_times
from benchmarks.record import Claim, finish, here, is_at_least, is_at_most
from benchmarks.wrong_times import BASELINE, Setting
from rarefy.pipeline.measure.statistics.intervals import wilson
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.interval import Interval

TRIALS, SEED = 2000, 0
RESULTS = Path(__file__).parent / "results" / "wrong_verdicts.json"
MOMENTS = ("before", "after")
PROMISE = 0.025
"""Of false passes of times; a one-sided bound of accuracy is at 5 %."""
PROMISE_OF_SCORES = 0.05
SAVED = 100
"""Trials after which they are written down."""

Trial = Callable[[np.random.Generator], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    ``outcome``: the one that is counted. It is wrong, unless the row has ``least``. ``promise``:
    the greatest share of trials in which it may come about, None if none is promised; ``least``:
    the least share.
    """

    name: str
    what: str
    trial: Trial
    outcome: str
    promise: float | None = None
    least: float | None = None
    trials: int = TRIALS


def relative(setting: Setting, percentile: int, limit: float | None = None) -> Trial:
    """Return a trial of ``max_regression``; without a limit, that is the truth."""
    _, ratio = wrong_times.truth(setting, percentile)
    limit = ratio - 1 if limit is None else limit
    budget = Budget(metric=f"latency_p{percentile}", max_regression=limit, against=BASELINE)
    return partial(timed, setting, budget)


def absolute(setting: Setting, percentile: int, room: float = 1.0) -> Trial:
    """Return a trial of ``max``, which is the truth times ``room``."""
    ms, _ = wrong_times.truth(setting, percentile)
    budget = Budget(metric=f"latency_p{percentile}", max=ms * room)
    return partial(timed, setting, budget)


def faster(setting: Setting, factor: float) -> Trial:
    """Return a trial of ``min_speedup`` of the median."""
    budget = Budget(metric="latency_p50", min_speedup=factor, against=BASELINE)
    return partial(timed, setting, budget)


def timed(setting: Setting, budget: Budget, generator: np.random.Generator) -> dict[str, Any]:
    """Return the outcome of a session's budget, and the processes that it took."""
    session = wrong_times.judged(setting, budget, generator)
    return {"outcome": session.outcome, "processes": session.processes}


def of_rows(simulate: Callable[[np.random.Generator], str]) -> Trial:
    """Return a trial of a budget on a score."""
    return lambda generator: {"outcome": simulate(generator)}


def lost(simulate: Callable[[np.random.Generator], float]) -> Trial:
    """Return a trial of ten releases: wrong if they lose more than the margin of one."""

    def trial(generator: np.random.Generator) -> dict[str, Any]:
        points = simulate(generator)
        outcome = "creeps" if points > 100 * wrong_rows.MARGIN else "holds"
        return {"outcome": outcome, "points": points}

    return trial


EQUAL = Setting()
THIRD = Setting(slow=1 / 3, slow_factor=1.25)
FIFTH = Setting(slow=0.2, slow_factor=1.25)
TENTH = Setting(slow=0.1, slow_factor=1.25)
RARE = Setting(slow=0.05, slow_factor=1.5)
SESSIONS = Setting(factor=1.05, session=0.02)
KNOWN_SESSIONS = Setting(factor=1.05, session=0.02, history=6)
FAST = Setting(factor=1 / 17)
SLOW = "25 % slower"
"""In a share of the processes."""


def rows_of_times() -> list[Row]:
    """Return the rows on times."""
    session, known = relative(SESSIONS, 50, 0.05), relative(KNOWN_SESSIONS, 50, 0.05)
    slower = Setting(factor=1.08)
    busy = Setting(load=1.4)
    return [
        Row("plain_p50", "nothing of the kind, p50", relative(EQUAL, 50), "pass", PROMISE),
        Row("plain_p95", "nothing of the kind, p95", relative(EQUAL, 95), "pass", PROMISE),
        Row("slow_third", f"{SLOW} in a third", relative(THIRD, 50), "pass", PROMISE),
        Row("slow_fifth", f"{SLOW} in a fifth", relative(FIFTH, 50), "pass", PROMISE),
        Row("slow_fifth_ms", f"{SLOW} in a fifth, in ms", absolute(FIFTH, 50), "pass", PROMISE),
        Row("slow_tenth", f"{SLOW} in a tenth", relative(TENTH, 50), "pass"),
        Row("slow_twentieth", "50 % slower in a twentieth, p95", relative(RARE, 95), "pass"),
        Row("session_pass", "2 % that one session's processes share", session, "pass"),
        Row("session_fail", "2 % that one session's processes share", session, "fail"),
        Row("known_pass", "the same, after 6 sessions of these models", known, "pass", PROMISE),
        Row("known_fail", "the same, after 6 sessions of these models", known, "fail", PROMISE),
        Row("ms_p50", "a limit in ms, p50", absolute(EQUAL, 50), "pass", PROMISE),
        Row("ms_p95", "a limit in ms, p95", absolute(EQUAL, 95), "pass", PROMISE),
        Row("busy", "20 % below a limit in ms, a load of 1.4", absolute(busy, 50, 1.2), "fail"),
        Row("seen_p50", "8 % slower, margin 5 %, p50", relative(slower, 50, 0.05), "fail"),
        Row("seen_p95", "8 % slower, margin 5 %, p95", relative(slower, 95, 0.05), "fail"),
        Row("equal", "equal, margin 5 %", relative(EQUAL, 50, 0.05), "pass", least=0.95),
        Row("far", "17 times as fast, limit 8", faster(FAST, 8), "pass", least=0.95),
    ]


def rows_of_scores() -> list[Row]:
    """Return the rows on scores."""
    clusters, best, creep = wrong_rows.of_clusters, wrong_rows.best_of, wrong_rows.creep
    alone = of_rows(wrong_rows.of_rows)
    copies = of_rows(wrong_rows.of_copies)
    linear = of_rows(partial(wrong_rows.of_linear, 0.01))
    three, ten = of_rows(partial(best, 3)), of_rows(partial(best, 10))
    unnamed, named = partial(clusters, named=False), partial(clusters, named=True)
    last, both = lost(partial(creep, anchored=False)), lost(partial(creep, anchored=True))
    return [
        Row("rows", "independent rows", alone, "pass", PROMISE_OF_SCORES, trials=4 * TRIALS),
        Row("clusters", "clusters of ten, not named", of_rows(unnamed), "pass"),
        Row("clusters_named", "clusters of ten, named", of_rows(named), "pass", PROMISE_OF_SCORES),
        Row("copies", "20 rows, 100 times each", copies, "pass", PROMISE_OF_SCORES),
        Row("best_of_3", "the best of 3 candidates", three, "pass"),
        Row("best_of_10", "the best of 10 candidates", ten, "pass"),
        Row("creep", "ten releases, half a point worse each", last, "creeps"),
        Row("creep_anchored", "the same beside an anchor", both, "creeps", PROMISE_OF_SCORES),
        Row("linear", "a point above the linear model", linear, "fail", PROMISE),
    ]


def simulate(row: Row, folder: Path, count: int) -> list[dict[str, Any]]:
    """Return at least ``count`` trials of a row, those in the folder among them."""
    path = folder / f"{row.name}.json"
    trials: list[dict[str, Any]] = []
    if path.is_file():
        trials = json.loads(path.read_text())
    while len(trials) < count:
        generator = np.random.default_rng([SEED, len(trials)])
        trials.append(row.trial(generator))
        if len(trials) % SAVED == 0:
            path.write_text(json.dumps(trials))
    return trials


def summary(row: Row, trials: list[dict[str, Any]], moment: str) -> dict[str, Any]:
    """Return how often a row's outcome came about, with its interval, and what it took."""
    outcomes = Counter(trial["outcome"] for trial in trials)
    share = wilson(outcomes[row.outcome], len(trials))
    result = {
        "row": row.name,
        "what": row.what,
        "moment": moment,
        "trials": len(trials),
        "counted": row.outcome,
        "share": [round(end, 4) for end in share],
        "outcomes": dict(outcomes),
        **here(),
    }
    processes = [trial["processes"] for trial in trials if "processes" in trial]
    if processes:
        result["processes"] = [float(np.median(processes)), float(np.quantile(processes, 0.9))]
    points = [trial["points"] for trial in trials if "points" in trial]
    if points:
        result["points lost"] = round(float(np.mean(points)), 2)
    return result


def claims(rows: list[Row], results: list[dict[str, Any]]) -> list[Claim]:
    """Claim of each row with a promise that it is held now, by the interval of the share."""
    moments = {(result["row"], result["moment"]): result for result in results}
    made = []
    for row in rows:
        after = moments.get((row.name, "after"))
        if after is None:
            continue
        share = Interval(*after["share"])
        if row.promise is not None:
            target, holds = f"at most {row.promise:.1%}", is_at_most(share, row.promise)
        elif row.least is not None:
            target, holds = f"at least {row.least:.0%}", is_at_least(share, row.least)
        else:
            continue
        measured = _share(after)
        before = moments.get((row.name, "before"))
        if before is not None:
            measured += f"; before: {_share(before)}"
        made.append(Claim(f"{row.what}: {row.outcome}", target, measured, holds))
    return made


def _share(result: dict[str, Any]) -> str:
    value, low, high = result["share"]
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def earlier(keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the rows of the record that are not simulated now."""
    if not RESULTS.is_file():
        return []
    return [row for row in json.loads(RESULTS.read_text())["rows"] if keep(row)]


def main() -> int:
    """Simulate the rows, and record them beside those of the other moment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moment", choices=MOMENTS, default="after")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--only", nargs="*", default=[], metavar="ROW")
    parser.add_argument("--trials", type=int, default=0, help="default: those of each row")
    options = parser.parse_args()
    rows = rows_of_times() + rows_of_scores()
    chosen = [row for row in rows if not options.only or row.name in options.only]
    names = {row.name for row in chosen}
    simulated = []
    with tempfile.TemporaryDirectory(prefix="rarefy-wrong-verdicts-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for row in chosen:
            trials = simulate(row, folder, options.trials or row.trials)
            result = summary(row, trials, options.moment)
            print(result, flush=True)
            simulated.append(result)
    now = options.moment
    others = earlier(lambda row: row["moment"] != now or row["row"] not in names)
    results = others + simulated
    return finish("wrong_verdicts", results, claims(rows, results), SEED)


if __name__ == "__main__":
    raise SystemExit(main())
