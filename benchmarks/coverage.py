"""Check the coverage of the score intervals on simulated classifiers with known true scores.

Each trial draws an eval split and the answers of two classifiers on it, and calls the functions
that the verdict calls. Two-sided 95 % intervals must cover the truth in about 95 of 100 trials; a
true drop of exactly the margin may pass in at most 5. For accuracy, both are also summed over all
tables of gains and losses, which has no simulation error.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.record import Claim, finish
from rarefy.pipeline.measure.statistics import intervals, scores
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.terms.interval import HALF_A_ROW, Interval

TRIALS, ECE_TRIALS = 2000, 400
SEED = 0
ROWS = (300, 1000, 2000)
FEW = 5
"""With fewer differing rows than this on average, nearly all tables are one of a handful."""
REST = 1e-7
"""Total probability of the tables that the sums leave out."""


@dataclass(frozen=True)
class Truth:
    """Two classifiers for two labels.

    ``gains``: share of rows that only the candidate answers correctly; ``losses``: share that only
    the reference does; ``share``: share of the second label.
    """

    name: str
    reference: float
    gains: float
    losses: float
    share: float = 0.3

    @property
    def candidate(self) -> float:
        return self.reference + self.gains - self.losses

    def kinds(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the kinds of rows (truth, candidate's answer, reference's) with their shares."""
        outcomes = (
            (True, True, self.reference - self.losses),
            (True, False, self.gains),
            (False, True, self.losses),
            (False, False, 1 - self.reference - self.gains),
        )
        kinds, shares = [], []
        for label, frequency in ((0, 1 - self.share), (1, self.share)):
            for candidate_correct, reference_correct, part in outcomes:
                candidate = label if candidate_correct else 1 - label
                reference = label if reference_correct else 1 - label
                kinds.append((label, candidate, reference))
                shares.append(part * frequency)
        return np.array(kinds), np.array(shares)

    def scores(self, name: str) -> tuple[float, float]:
        """Return the true scores of candidate and reference."""
        if name == "accuracy":
            return self.candidate, self.reference
        return self._macro_f1(1), self._macro_f1(2)

    def _macro_f1(self, column: int) -> float:
        """Return the true macro F1 of the classifier in a column of ``kinds``."""
        kinds, shares = self.kinds()
        pairs = kinds[:, [0, column]]
        scores = []
        for label in (0, 1):
            is_label = pairs == label
            hits = shares[is_label.all(axis=1)].sum()
            errors = shares[is_label.sum(axis=1) == 1].sum()
            scores.append(2 * hits / (2 * hits + errors))
        return float(np.mean(scores))


TRUTHS = (
    Truth("equal, 6 % differ", 0.88, 0.030, 0.030),
    Truth("0.88 to 0.87, 6 % differ", 0.88, 0.025, 0.035),
    Truth("0.88 to 0.85, 7 % differ", 0.88, 0.020, 0.050),
    Truth("0.88 to 0.78, 14 % differ", 0.88, 0.020, 0.120),
    Truth("0.995 to 0.985, 1.4 % differ", 0.995, 0.002, 0.012),
    Truth("0.995 to 0.990, 0.9 % differ", 0.995, 0.002, 0.007),
    Truth("rare class, 0.90 to 0.89, 5 % differ", 0.90, 0.020, 0.030, share=0.1),
)


def simulate(truth: Truth, rows: int) -> dict[tuple[str, str], dict[str, float]]:
    """Return, per (score, difference or ratio), the rates of coverage and of false passes."""
    kinds, shares = truth.kinds()
    certain = np.eye(2)
    generator = np.random.default_rng([SEED, rows])
    outcomes: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for trial in range(TRIALS):
        counts = generator.multinomial(rows, shares)
        drawn = np.repeat(kinds, counts, axis=0)
        labels = drawn[:, 0]
        candidate = certain[drawn[:, 1]]
        reference = certain[drawn[:, 2]]
        for name in ("accuracy", "macro_f1"):
            ours, theirs = truth.scores(name)
            difference, ratio = ours - theirs, ours / theirs
            estimate = scores.compare(
                TEXT_CLASSIFICATION, name, candidate, reference, labels, trial
            )
            covers = _holds(estimate.difference, difference)
            passes = intervals.non_inferiority(estimate.difference90, -difference) == "pass"
            outcomes[name, "difference"].append((covers, passes))
            covers = _holds(estimate.ratio, ratio)
            passes = estimate.ratio90.low >= ratio
            outcomes[name, "ratio"].append((covers, passes))
    rates = {}
    for key, pairs in outcomes.items():
        covered, false_passes = np.mean(pairs, axis=0).tolist()
        rates[key] = {"covers": covered, "false_pass": false_passes}
    return rates


def summed(truth: Truth, rows: int) -> dict[str, float]:
    """Return both rates for accuracy's difference exactly, summed over all tables."""
    difference = truth.candidate - truth.reference
    covers = passes = 0.0
    for gains, losses, chance in _tables(truth, rows):
        if _holds(two_sided(gains, losses, rows), difference):
            covers += chance
        bounds = one_sided(gains, losses, rows)
        if intervals.non_inferiority(bounds, -difference) == "pass":
            passes += chance
    return {"covers_summed": covers, "false_pass_summed": passes + REST}


@cache
def two_sided(gains: int, losses: int, rows: int) -> Interval:
    return intervals.paired_difference(gains, losses, rows)


@cache
def one_sided(gains: int, losses: int, rows: int) -> Interval:
    return intervals.paired_difference(gains, losses, rows, 0.90, HALF_A_ROW)


def _tables(truth: Truth, rows: int) -> list[tuple[int, int, float]]:
    """Return the most likely tables (gains, losses, probability), all but ``REST`` in total."""
    from scipy.stats import binom

    most_gains = int(binom.isf(REST / 10, rows, truth.gains))
    most_losses = int(binom.isf(REST / 10, rows, truth.losses))
    grid = np.mgrid[: most_gains + 1, : most_losses + 1]
    gains, losses = grid.reshape(2, -1)
    loss_share = truth.losses / (1 - truth.gains)
    chances = binom.pmf(gains, rows, truth.gains)
    chances *= binom.pmf(losses, rows - gains, loss_share)
    order = np.argsort(-chances)
    count = int(np.searchsorted(np.cumsum(chances[order]), 1 - REST)) + 1
    likely = order[:count]
    columns = (gains[likely].tolist(), losses[likely].tolist(), chances[likely].tolist())
    return list(zip(*columns, strict=True))


def calibration(rows: int, gap: float) -> dict[str, float]:
    """Return how often ECE's interval covers the truth for a model overconfident by ``gap``."""
    generator = np.random.default_rng([SEED, rows])
    covers, passes, fails = 0, 0, 0
    for trial in range(ECE_TRIALS):
        sure = generator.uniform(0.5, 1, rows)
        truth = (generator.random(rows) >= sure - gap).astype(np.int64)
        probabilities = np.stack([sure, 1 - sure], axis=1)
        interval = scores.alone(TEXT_CLASSIFICATION, "ece", probabilities, truth, trial)
        covers += _holds(interval, gap)
        passes += interval.high <= gap
        fails += interval.low > gap
    return {
        "covers": covers / ECE_TRIALS,
        "false_pass": passes / ECE_TRIALS,
        "false_fail": fails / ECE_TRIALS,
    }


def _holds(interval: Interval, value: float) -> bool:
    return bool(interval.low <= value <= interval.high)


def measure() -> list[dict[str, Any]]:
    """Return a row of rates for each truth, number of rows, score and form of budget."""
    results = []
    for truth in TRUTHS:
        for rows in ROWS:
            exact = summed(truth, rows)
            for (score, form), rates in simulate(truth, rows).items():
                row = {"truth": truth.name, "rows": rows, "score": score, "form": form, **rates}
                row["differing_rows"] = rows * (truth.gains + truth.losses)
                if (score, form) == ("accuracy", "difference"):
                    row |= exact
                results.append(row)
    for gap in (0.0, 0.02, 0.05):
        name = f"overconfident by {gap:.0%}"
        row = {"truth": name, "rows": 1000, "score": "ece", "form": "value"}
        results.append(row | calibration(1000, gap))
    return results


def claims(results: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims; simulated rates may exceed 5 % by 3 standard errors (2,000 trials)."""
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)
    return [
        *_difference_claims(_of(results, "accuracy", "difference"), allowed),
        *_budget_claims("min_retained of accuracy", _of(results, "accuracy", "ratio"), allowed),
        *_budget_claims("max_drop of macro F1", _of(results, "macro_f1", "difference"), allowed),
        *_budget_claims("min_retained of macro F1", _of(results, "macro_f1", "ratio"), allowed),
        *_calibration_claims(_of(results, "ece", "value")),
    ]


def _of(results: list[dict[str, Any]], score: str, form: str) -> list[dict[str, Any]]:
    return [row for row in results if row["score"] == score and row["form"] == form]


def _near_nominal(rows: list[dict[str, Any]]) -> bool:
    return all(0.93 <= row["covers"] <= 0.97 for row in rows)


def _difference_claims(accuracy: list[dict[str, Any]], allowed: float) -> list[Claim]:
    """Claim coverage and false passes of accuracy's paired difference."""
    many = [row for row in accuracy if row["differing_rows"] >= FEW]
    few = [row for row in accuracy if row["differing_rows"] < FEW]
    return [
        Claim(
            f"coverage of the 95 % interval of accuracy's paired difference, {FEW} or more rows "
            "differ",
            "93–97 % of 2,000 trials",
            _range(many, "covers"),
            _near_nominal(many),
        ),
        Claim(
            f"the same if fewer than {FEW} rows differ on average (may be wider)",
            "93 % or more",
            _range(few, "covers"),
            all(row["covers"] >= 0.93 for row in few),
        ),
        Claim(
            "max_drop of accuracy: a true drop of the margin passes (summed over all tables)",
            "at most 5 %",
            _range(accuracy, "false_pass_summed"),
            all(row["false_pass_summed"] <= 0.05 for row in accuracy),
        ),
        Claim(
            "max_drop of accuracy: a true drop of the margin passes (2,000 trials)",
            f"at most 5 % + 3 standard errors = {allowed:.1%}",
            _range(accuracy, "false_pass"),
            all(row["false_pass"] <= allowed for row in accuracy),
        ),
    ]


def _budget_claims(budget: str, rows: list[dict[str, Any]], allowed: float) -> list[Claim]:
    """Claim false passes and coverage of a budget's form."""
    enough = [row for row in rows if row["differing_rows"] >= FEW]
    return [
        Claim(
            f"{budget}: a true drop of the margin passes",
            f"at most 5 % + 3 standard errors = {allowed:.1%}",
            _range(rows, "false_pass"),
            all(row["false_pass"] <= allowed for row in rows),
        ),
        Claim(
            f"{budget}: coverage of the 95 % interval, {FEW} or more rows differ",
            "93–97 % of 2,000 trials",
            _range(enough, "covers"),
            _near_nominal(enough),
        ),
    ]


def _calibration_claims(errors: list[dict[str, Any]]) -> list[Claim]:
    """Claim how often a true calibration error at the limit is judged wrongly."""
    claims = []
    for key, verb in (("false_pass", "passes"), ("false_fail", "fails")):
        claim = Claim(
            f"max of calibration error: a true error at the limit {verb} ({ECE_TRIALS} trials)",
            "at most 5 %",
            _range(errors, key),
            all(row[key] <= 0.05 for row in errors),
        )
        claims.append(claim)
    return claims


def _range(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows]
    return f"{min(values):.2%} to {max(values):.2%} in {len(values)} settings"


def show(results: list[dict[str, Any]]) -> None:
    table = Table(
        "truth", "rows", "score", "form", "covers", "summed", "false pass", "summed", "false fail"
    )
    for row in results:
        keys = ("covers", "covers_summed", "false_pass", "false_pass_summed", "false_fail")
        numbers = [f"{row[key]:.2%}" if key in row else "" for key in keys]
        table.add_row(row["truth"], str(row["rows"]), row["score"], row["form"], *numbers)
    Console(width=140).print(table)


if __name__ == "__main__":
    rates = measure()
    show(rates)
    raise SystemExit(finish("coverage", rates, claims(rates), SEED))
