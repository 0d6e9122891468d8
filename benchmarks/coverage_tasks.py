"""Check the intervals of the scores of all tasks but classification, on simulated models.

Each setting has a population of blocks (rows, queries, sentences or pairs) with the answers of two
models, so their true scores are known. Each trial draws blocks from it and calls
``pipeline.measure.paired``, as the verdict does. Two-sided 95 % intervals must cover the truth in
about 95 of 100 trials; a true drop of exactly the margin may pass in at most 5; of two models that
are equally good, a budget of "no worse" may fail one in at most 5. The interval of
agreement must cover the truth too, although words of a sentence tend to differ together.

``python -m benchmarks.coverage_tasks`` goes on where it was stopped: finished settings are kept in
``--work`` until the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import Claim, finish
from pipeline.measure import paired, scores, statistics
from pipeline.stage.formulas import Floats, Formula, Labels, Score
from pipeline.stage.scoring import entities, means, multi_label, ranking, regression
from pipeline.stage.tasks.token_classification import TOKEN_CLASSIFICATION
from pipeline.terms.interval import Interval

SEED = 0
POPULATION = 60_000
RESAMPLES = 600
TRIALS = 400
BLOCKS = (50, 100, 300, 1000)
SLOW = ("mean average precision", "Spearman", "Spearman of similarities")
"""Not linear in sums of weights: simulated up to 300 blocks."""
MANY = 20
"""With fewer differing blocks than this on average, an interval may be wider."""

Pair = Callable[[Labels], tuple[Score, Score]]
"""Maps the drawn blocks to the scores of candidate and reference on them."""


@dataclass(frozen=True)
class Change:
    """How the candidate differs from the reference.

    ``share``: part of the blocks that the candidate answers anew; ``harm``: what is added to the
    noise of these answers. If ``equal``, the reference answers as many others anew, as badly.
    """

    name: str
    share: float
    harm: float
    equal: bool = False


CHANGES = (
    Change("few differ", 0.03, 1.0),
    Change("many differ", 0.30, 0.6),
    Change("equally good", 0.15, 0.5, equal=True),
)
WILD = Change("rare failures", 0.03, 2.5)
"""Answers far worse than any of the reference: a sample without one has no hint of it."""
WILD_BLOCKS = (100, 300)
CLUSTERED = Change("clustered", 0.08, 0.25)
"""Sentences of which a quarter of the words are answered anew; of the others it is a hundredth."""
AGREEMENT, WORDS, OTHERS = "agreement of words", 20, 0.01


def answers(
    signal: Floats, noise: float, change: Change, generator: np.random.Generator
) -> list[Floats]:
    """Return both models' values for ``signal`` (blocks × ...): signal + noise, partly anew."""
    base = signal + noise * generator.normal(size=signal.shape)
    by_block = (-1, *[1] * (signal.ndim - 1))
    sides = []
    for changed in (True, change.equal):
        anew = signal + (noise + change.harm) * generator.normal(size=signal.shape)
        is_anew = (generator.random(len(signal)) < change.share) & changed
        sides.append(np.where(is_anew.reshape(by_block), anew, base))
    return sides


def from_rows(formula: Formula, sides: list[Floats], truth: Any) -> Pair:
    def pair(drawn: Labels) -> tuple[Score, Score]:
        first, second = (formula(side[drawn], truth[drawn]) for side in sides)
        return first, second

    return pair


def labelled(formula: Formula, change: Change, generator: np.random.Generator) -> Pair:
    """Five labels, on 40 to 10 % of the rows."""
    truth = (generator.random((POPULATION, 5)) < (0.4, 0.3, 0.2, 0.2, 0.1)).astype(np.int64)
    logits = answers(4.0 * truth - 2.0, 1.2, change, generator)
    sides = [np.hstack([1 / (1 + np.exp(-side)), side > 0]) for side in logits]
    return from_rows(formula, sides, truth)


def scored(formula: Formula, change: Change, generator: np.random.Generator) -> Pair:
    truth = generator.normal(size=POPULATION)
    sides = answers(truth[:, None], 0.5, change, generator)
    return from_rows(formula, sides, truth)


def similar(formula: Formula, change: Change, generator: np.random.Generator) -> Pair:
    """Pairs of texts whose true similarity was rated from 0 to 5; the model answers a cosine."""
    meant = generator.uniform(-0.5, 5.5, POPULATION)
    sides = [np.tanh(side / 5) for side in answers(meant[:, None], 1.0, change, generator)]
    return from_rows(formula, sides, np.round(meant))


def ranked(
    measure: Callable[[ranking.Places], Floats], change: Change, generator: np.random.Generator
) -> Pair:
    """Queries with 20 documents each, of which one to three are relevant."""
    queries, documents = POPULATION // 4, 20
    relevant = np.arange(documents) < generator.integers(1, 4, (queries, 1))
    query = np.repeat(np.arange(queries), documents)
    values = []
    for side in answers(2.0 * relevant, 1.0, change, generator):
        places = ranking.by_group(side.ravel(), relevant.ravel().astype(float), query, queries)
        values.append(measure(places))
    return lambda drawn: (means.mean(values[0][drawn]), means.mean(values[1][drawn]))


def tagged(
    score: Callable[[entities.Counts], Score], change: Change, generator: np.random.Generator
) -> Pair:
    """Sentences with 0 to 6 entities; a model misses some and invents others."""
    true = generator.poisson(1.5, POPULATION)
    slots = np.arange(8) < (true + 1)[:, None]  # one place more, where one may be invented
    sides = []
    for side in answers(np.full((POPULATION, 8), 1.5), 1.0, change, generator):
        hits = (side > 0) & slots
        correct = np.sum(hits & (np.arange(8) < true[:, None]), axis=1)
        wrong = np.sum(slots & ~hits, axis=1)
        counts = np.stack([correct, correct + wrong, true], axis=1)
        sides.append(counts.astype(float))

    def pair(drawn: Labels) -> tuple[Score, Score]:
        first, second = (score(entities.Counts(*side[drawn].T)) for side in sides)
        return first, second

    return pair


SCORES: dict[str, Callable[[Change, np.random.Generator], Pair]] = {
    "multi-label micro F1": lambda *how: labelled(multi_label.micro_f1, *how),
    "multi-label macro F1": lambda *how: labelled(multi_label.macro_f1, *how),
    "mean average precision": lambda *how: labelled(multi_label.mean_average_precision, *how),
    "Spearman": lambda *how: scored(regression.spearman, *how),
    "Pearson": lambda *how: scored(regression.pearson, *how),
    "Spearman of similarities": lambda *how: similar(regression.spearman, *how),
    "nDCG@10": lambda *how: ranked(ranking.ndcg, *how),
    "MRR@10": lambda *how: ranked(ranking.reciprocal_rank, *how),
    "entity F1": lambda *how: tagged(entities.f1, *how),
}
SIZES = {"nDCG@10": POPULATION // 4, "MRR@10": POPULATION // 4}


def simulate(score: str, change: Change, blocks: int, trials: int) -> dict[str, Any]:
    """Return the rates of one setting.

    Args:
        score: one of ``SCORES``, or ``AGREEMENT``.
        change: how the candidate differs.
        blocks: drawn in each trial.
        trials: how many.
    """
    if score == AGREEMENT:
        return agreeing(change, blocks, trials)
    name = hashlib.sha256(f"{score} {change.name} {blocks}".encode()).digest()
    generator = np.random.default_rng([SEED, *name[:4]])
    pair, size = SCORES[score](change, generator), SIZES.get(score, POPULATION)
    ones = np.ones((1, size))
    ours, theirs = (float(side(ones)[0]) for side in pair(np.arange(size)))
    if change.equal:
        ours = theirs = (ours + theirs) / 2
    difference, ratio = ours - theirs, ours / theirs
    outcomes = []
    for trial in range(trials):
        first, second = pair(generator.integers(0, size, blocks))
        estimate = paired.compare(first, second, blocks, trial, RESAMPLES)
        outcome = {
            "covers": _holds(estimate.difference, difference),
            "covers_ratio": _holds(estimate.ratio, ratio),
            "false_pass": estimate.difference90.low > difference,
            "false_pass_ratio": estimate.ratio90.low > ratio,
            "false_fail": estimate.difference90.high < difference,
        }
        outcomes.append(outcome)
    rates = {key: _share(outcome[key] for outcome in outcomes) for key in outcomes[0]}
    return {
        "score": score,
        "change": change.name,
        "blocks": blocks,
        "trials": trials,
        "reference": theirs,
        "difference": difference,
        "differing": blocks * change.share * (1 + change.equal),
        **rates,
    }


def agreeing(change: Change, sentences: int, trials: int) -> dict[str, Any]:
    """Return how often the interval of agreement covers the truth, and how often it is above."""
    generator = np.random.default_rng([SEED, sentences])
    true = 1 - (change.share * change.harm + (1 - change.share) * OTHERS)
    truth = [{"tags": [0] * WORDS, "names": ["O", "B-X"]}] * sentences
    reference = np.tile([0.9, 0.1], (sentences * WORDS, 1))
    opposite = reference[:, ::-1]
    intervals = []
    for trial in range(trials):
        is_anew = generator.random((sentences, 1)) < change.share
        chance = np.where(is_anew, change.harm, OTHERS)
        differs = generator.random((sentences, WORDS)) < chance
        candidate = np.where(differs.reshape(-1, 1), opposite, reference)
        interval = scores.agreement(TOKEN_CLASSIFICATION, reference, candidate, truth, trial)
        intervals.append(interval)
    return {
        "score": AGREEMENT,
        "change": change.name,
        "blocks": sentences,
        "trials": trials,
        "reference": true,
        "difference": true - 1,
        "differing": sentences * change.share,
        "covers": _share(_holds(interval, true) for interval in intervals),
        "false_pass": _share(interval.low > true for interval in intervals),
    }


def _share(outcomes: Iterable[bool]) -> float:
    return float(np.mean(list(outcomes)))


def _holds(interval: Interval, value: float) -> bool:
    return bool(interval.low <= value <= interval.high)


def measure(work: Path, trials: int, sizes: Sequence[int] = BLOCKS) -> list[dict[str, Any]]:
    """Return the settings of some sizes.

    Args:
        work: the folder in which finished settings are kept, and from which they are taken.
        trials: of each setting.
        sizes: the numbers of blocks.
    """
    path = work / f"{_version(trials)}.jsonl"
    rows: list[dict[str, Any]] = []
    if path.exists():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [row for row in lines if row["blocks"] in sizes]
    finished = {(row["score"], row["change"], row["blocks"]) for row in rows}
    for score, change, blocks in settings():
        if blocks not in sizes or (score, change.name, blocks) in finished:
            continue
        start = time.perf_counter()
        row = simulate(score, change, blocks, trials)
        row["seconds"] = round(time.perf_counter() - start, 1)
        rows.append(row)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return rows


def _version(trials: int) -> str:
    """Return a digest of all that rates depend on."""
    changes = [asdict(change) for change in (*CHANGES, WILD, CLUSTERED)]
    parts: list[Any] = [POPULATION, RESAMPLES, trials, changes, Path(__file__).read_text()]
    for module in (paired, scores, statistics, multi_label, regression, entities, ranking, means):
        parts.append(Path(str(module.__file__)).read_text())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def settings() -> list[tuple[str, Change, int]]:
    """Return each score, change and number of blocks that is simulated."""
    settings = [(AGREEMENT, CLUSTERED, blocks) for blocks in BLOCKS]
    for blocks in BLOCKS:
        for score in SCORES:
            if score in SLOW and blocks >= 1000:
                continue
            settings += [(score, change, blocks) for change in CHANGES]
            if blocks in WILD_BLOCKS:
                settings.append((score, WILD, blocks))
    return settings


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims; a simulated rate may miss its target by 3 standard errors."""
    words = [row for row in rows if row["score"] == AGREEMENT]
    scored_rows = [row for row in rows if row["score"] != AGREEMENT]
    usual = [row for row in scored_rows if row["change"] != WILD.name]
    wild = [row for row in scored_rows if row["change"] == WILD.name]
    equal = [row for row in usual if row["difference"] == 0]
    return [
        Claim(
            "coverage of the 95 % interval of agreement of words that differ together",
            "93.5 % or more, with 3 standard errors",
            _range(words, "covers"),
            all(_at_least(row, "covers", 0.935) for row in words),
        ),
        Claim(
            "agreement: a limit of just the truth passes",
            "at most 2.5 %, with 3 standard errors",
            _range(words, "false_pass"),
            all(_at_most(row, "false_pass", 0.025) for row in words),
        ),
        *coverage_claims(usual, "covers", "difference"),
        *coverage_claims(usual, "covers_ratio", "ratio"),
        error_claim(usual, "false_pass", "max_drop: a true drop of the margin passes"),
        error_claim(usual, "false_pass_ratio", "min_retained: a true drop of the margin passes"),
        error_claim(usual, "false_fail", "max_drop: a true drop of the margin fails"),
        error_claim(
            equal, "false_fail", "one of two equally good models fails a budget of no drop"
        ),
        error_claim(wild, "false_pass", "max_drop: a drop of the margin by rare failures passes"),
    ]


def coverage_claims(usual: list[dict[str, Any]], key: str, form: str) -> list[Claim]:
    """Claim the coverage of differences or ratios, by how many blocks differ."""
    many = [row for row in usual if row["differing"] >= MANY]
    few = [row for row in usual if row["differing"] < MANY]
    return [
        Claim(
            f"coverage of the 95 % interval of the {form}, {MANY} or more blocks differ",
            "93.5–97 %, with 3 standard errors",
            _range(many, key),
            all(_at_least(row, key, 0.935) and _at_most(row, key, 0.97) for row in many),
        ),
        Claim(
            f"the same of the {form} if fewer than {MANY} blocks differ (may be wider)",
            "93.5 % or more, with 3 standard errors",
            _range(few, key),
            all(_at_least(row, key, 0.935) for row in few),
        ),
    ]


def error_claim(rows: list[dict[str, Any]], key: str, title: str) -> Claim:
    """Claim that a wrong verdict is rare."""
    rare = all(_at_most(row, key, 0.05) for row in rows)
    return Claim(title, "at most 5 %, with 3 standard errors", _range(rows, key), rare)


def _error(row: dict[str, Any], rate: float) -> float:
    return 3 * math.sqrt(rate * (1 - rate) / row["trials"])


def _at_most(row: dict[str, Any], key: str, rate: float) -> bool:
    return bool(row[key] <= rate + _error(row, rate))


def _at_least(row: dict[str, Any], key: str, rate: float) -> bool:
    return bool(row[key] >= rate - _error(row, rate))


def _range(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows]
    mean = float(np.mean(values))
    return f"{min(values):.1%} to {max(values):.1%} in {len(values)} settings, mean {mean:.1%}"


def show(rows: list[dict[str, Any]]) -> None:
    rates = ("covers", "covers_ratio", "false_pass", "false_pass_ratio", "false_fail")
    table = Table("score", "change", "blocks", "difference", *rates, "s")
    for row in rows:
        numbers = [f"{row[key]:.1%}" if key in row else "" for key in rates]
        start = row["score"], row["change"], str(row["blocks"]), f"{row['difference']:.4f}"
        table.add_row(*start, *numbers, str(row["seconds"]))
    Console(width=140).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "rarefy-coverage-tasks"
    )
    parser.add_argument("--trials", type=int, default=TRIALS, help="per setting")
    parser.add_argument("--blocks", type=int, nargs="+", default=BLOCKS, choices=BLOCKS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = measure(options.work, options.trials, options.blocks)
    show(rows)
    return finish("coverage_tasks", rows, claims(rows), SEED)


if __name__ == "__main__":
    raise SystemExit(main())
