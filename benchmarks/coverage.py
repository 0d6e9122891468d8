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
from pipeline.measure import scores, statistics
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from pipeline.terms.interval import Interval

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
        right = {
            (True, True): self.reference - self.losses,
            (True, False): self.gains,
            (False, True): self.losses,
            (False, False): 1 - self.reference - self.gains,
        }
        kinds = {
            (true, true if ours else 1 - true, true if theirs else 1 - true): part * label
            for true, label in ((0, 1 - self.share), (1, self.share))
            for (ours, theirs), part in right.items()
        }
        return np.array(list(kinds)), np.array(list(kinds.values()))

    def scores(self, name: str) -> tuple[float, float]:
        """Return the true scores of candidate and reference."""
        if name == "accuracy":
            return self.candidate, self.reference
        kinds, shares = self.kinds()
        found = []
        for side in (1, 2):
            hit = [shares[(kinds[:, [0, side]] == label).all(axis=1)].sum() for label in (0, 1)]
            either = [
                shares[(kinds[:, [0, side]] == label).sum(axis=1) == 1].sum() for label in (0, 1)
            ]
            found.append(
                float(np.mean([2 * h / (2 * h + e) for h, e in zip(hit, either, strict=True)]))
            )
        return found[0], found[1]


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
    hits: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for trial in range(TRIALS):
        drawn = kinds[np.repeat(np.arange(len(kinds)), generator.multinomial(rows, shares))]
        for name in ("accuracy", "macro_f1"):
            ours, theirs = truth.scores(name)
            found = scores.compare(
                TEXT_CLASSIFICATION,
                name,
                certain[drawn[:, 1]],
                certain[drawn[:, 2]],
                drawn[:, 0],
                trial,
            )
            difference, ratio = ours - theirs, ours / theirs
            passes = statistics.non_inferiority(found.difference90, -difference) == "pass"
            hits[name, "difference"].append((_holds(found.difference, difference), passes))
            hits[name, "ratio"].append((_holds(found.ratio, ratio), found.ratio90.low >= ratio))
    return {
        key: dict(zip(("covers", "false_pass"), np.mean(pairs, axis=0).tolist(), strict=True))
        for key, pairs in hits.items()
    }


def summed(truth: Truth, rows: int) -> dict[str, float]:
    """Return both rates for accuracy's difference exactly, summed over all tables."""
    difference, covers, passes = truth.candidate - truth.reference, 0.0, 0.0
    for gains, losses, chance in _tables(truth, rows):
        covers += chance * _holds(two_sided(gains, losses, rows), difference)
        bounds = one_sided(gains, losses, rows)
        passes += chance * (statistics.non_inferiority(bounds, -difference) == "pass")
    return {"covers_summed": covers, "false_pass_summed": passes + REST}


@cache
def two_sided(gains: int, losses: int, rows: int) -> Interval:
    return statistics.paired_difference(gains, losses, rows)


@cache
def one_sided(gains: int, losses: int, rows: int) -> Interval:
    return statistics.paired_difference(gains, losses, rows, 0.90, scores.HALF_A_ROW)


def _tables(truth: Truth, rows: int) -> list[tuple[int, int, float]]:
    """Return the most likely tables (gains, losses, probability), all but ``REST`` in total."""
    from scipy.stats import binom

    most = [int(binom.isf(REST / 10, rows, share)) for share in (truth.gains, truth.losses)]
    gains, losses = (side.ravel() for side in np.mgrid[: most[0] + 1, : most[1] + 1])
    chances = binom.pmf(gains, rows, truth.gains) * binom.pmf(
        losses, rows - gains, truth.losses / (1 - truth.gains)
    )
    order = np.argsort(-chances)
    kept = order[: int(np.searchsorted(np.cumsum(chances[order]), 1 - REST)) + 1]
    return list(
        zip(gains[kept].tolist(), losses[kept].tolist(), chances[kept].tolist(), strict=True)
    )


def calibration(rows: int, gap: float) -> dict[str, float]:
    """Return how often ECE's interval covers the truth for a model overconfident by ``gap``."""
    generator = np.random.default_rng([SEED, rows])
    covers, passes, fails = 0, 0, 0
    for trial in range(ECE_TRIALS):
        sure = generator.uniform(0.5, 1, rows)
        truth = (generator.random(rows) >= sure - gap).astype(np.int64)
        found = scores.alone(
            TEXT_CLASSIFICATION, "ece", np.stack([sure, 1 - sure], axis=1), truth, trial
        )
        covers += _holds(found, gap)
        passes += found.high <= gap
        fails += found.low > gap
    shares = (count / ECE_TRIALS for count in (covers, passes, fails))
    return dict(zip(("covers", "false_pass", "false_fail"), shares, strict=True))


def _holds(found: Interval, value: float) -> bool:
    return bool(found.low <= value <= found.high)


def measure() -> list[dict[str, Any]]:
    found = []
    for truth in TRUTHS:
        for rows in ROWS:
            exact = summed(truth, rows)
            for (score, form), result in simulate(truth, rows).items():
                row = {"truth": truth.name, "rows": rows, "score": score, "form": form} | result
                row["differing_rows"] = rows * (truth.gains + truth.losses)
                found.append(row | (exact if (score, form) == ("accuracy", "difference") else {}))
    for gap in (0.0, 0.02, 0.05):
        name = f"overconfident by {gap:.0%}"
        row = {"truth": name, "rows": 1000, "score": "ece", "form": "value"}
        found.append(row | calibration(1000, gap))
    return found


def claims(found: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims; simulated rates may exceed 5 % by 3 standard errors (2,000 trials)."""
    accuracy = [r for r in found if (r["score"], r["form"]) == ("accuracy", "difference")]
    many = [r for r in accuracy if r["differing_rows"] >= FEW]
    few = [r for r in accuracy if r["differing_rows"] < FEW]
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)
    made = [
        Claim(
            f"coverage of the 95 % interval of accuracy's paired difference, {FEW} or more rows "
            "differ",
            "93–97 % of 2,000 trials",
            _range(many, "covers"),
            all(0.93 <= row["covers"] <= 0.97 for row in many),
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
    for score, form, word in (
        ("accuracy", "ratio", "min_retained of accuracy"),
        ("macro_f1", "difference", "max_drop of macro F1"),
        ("macro_f1", "ratio", "min_retained of macro F1"),
    ):
        rows = [r for r in found if (r["score"], r["form"]) == (score, form)]
        enough = [r for r in rows if r["differing_rows"] >= FEW]
        made += [
            Claim(
                f"{word}: a true drop of the margin passes",
                f"at most 5 % + 3 standard errors = {allowed:.1%}",
                _range(rows, "false_pass"),
                all(row["false_pass"] <= allowed for row in rows),
            ),
            Claim(
                f"{word}: coverage of the 95 % interval, {FEW} or more rows differ",
                "93–97 % of 2,000 trials",
                _range(enough, "covers"),
                all(0.93 <= row["covers"] <= 0.97 for row in enough),
            ),
        ]
    errors = [row for row in found if row["score"] == "ece"]
    for key, word in (("false_pass", "passes"), ("false_fail", "fails")):
        made.append(
            Claim(
                f"max of calibration error: a true error at the limit {word} ({ECE_TRIALS} trials)",
                "at most 5 %",
                _range(errors, key),
                all(row[key] <= 0.05 for row in errors),
            )
        )
    return made


def _range(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows]
    return f"{min(values):.2%} to {max(values):.2%} in {len(values)} settings"


def show(found: list[dict[str, Any]]) -> None:
    table = Table(
        "truth", "rows", "score", "form", "covers", "summed", "false pass", "summed", "false fail"
    )
    for row in found:
        keys = ("covers", "covers_summed", "false_pass", "false_pass_summed", "false_fail")
        numbers = [f"{row[key]:.2%}" if key in row else "" for key in keys]
        table.add_row(row["truth"], str(row["rows"]), row["score"], row["form"], *numbers)
    Console(width=140).print(table)


if __name__ == "__main__":
    rows_found = measure()
    show(rows_found)
    raise SystemExit(finish("coverage", rows_found, claims(rows_found), SEED))
