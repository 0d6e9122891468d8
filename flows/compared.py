"""A comparison from Python, and its readable form: a table in a terminal, HTML in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from flows.display import as_text, doubts, verdict_table
from flows.planned import html_table
from pipeline.model import own_provider
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.release import bundles
from pipeline.release import compare as comparing
from pipeline.release.answering import Bundle
from pipeline.release.comparison import SIDES, Compared, Effort
from pipeline.release.origin import recipe_of
from pipeline.store.home import Home
from pipeline.terms import metrics, wording
from pipeline.terms.errors import RecipeError
from pipeline.terms.interval import Interval
from pipeline.terms.outcomes import SYMBOL
from pipeline.terms.vocabulary import Target, check_threads
from pipeline.terms.wording import bounds, count, exactly, percent, plural, signed, size
from pipeline.verdict.verdict import Verdict

CHANGES = {
    "regression": "slower by more than",
    "improvement": "faster by more than",
    "equal": "equal within",
    "inconclusive": "inconclusive at",
}


@dataclass(frozen=True)
class ComparisonView:
    """A candidate compared with a baseline; ``verdict`` is None if no limit was given."""

    compared: Compared
    verdict: Verdict | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all numbers: differences are candidate − baseline, ratios candidate ÷ baseline."""
        return self.compared.as_json()

    def table(self) -> Table:
        names = self.compared.names
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("", *SIDES, "candidate against baseline"):
            table.add_column(column)
        table.add_row("", *(names[side] for side in SIDES), "")
        for row in self.rows():
            table.add_row(*row)
        return table

    def rows(self) -> list[list[str]]:
        """Return a row for each quantity: its name, both values, and how they differ."""
        numbers = self.as_json()
        models, scores, times = numbers["models"], numbers["accuracy"], numbers["latency"]
        unit = metrics.unit(scores["metric"])
        rows = [
            [
                scores["metric"].replace("_", " "),
                *(_bounds(scores[side], unit) for side in SIDES),
                _difference(scores, unit),
            ],
            ["agreement", _bounds(scores["agreement"], "%"), "", _flips(scores)],
            [
                f"latency p50 ({times['provider']}, {plural(times['threads'], 'thread')})",
                *(_bounds(times[f"{side}_p50"], "ms") for side in SIDES),
                f"{_bounds(times['ratio'], '×')} the baseline's: "
                f"{CHANGES[times['change']]} {exactly(percent, times['margin'])}",
            ],
        ]
        for name, shown in (("size", size), ("parameters", count)):
            candidate, baseline = (models[side][name] for side in SIDES)
            if candidate and baseline:
                ratio = wording.times(candidate / baseline)
                rows.append([name, shown(candidate), shown(baseline), f"{ratio} the baseline's"])
        return rows

    def __repr__(self) -> str:
        if self.verdict is None:
            return as_text(self.table())
        why = "".join(f"\n{line}" for line in doubts(self.verdict))
        return f"{as_text(self.table())}\n{as_text(verdict_table(self.verdict))}{why}"

    def _repr_html_(self) -> str:
        table = html_table(("", *SIDES, "candidate against baseline"), self.rows())
        if self.verdict is None:
            return table
        rows = [[SYMBOL[b.outcome], b.metric, b.reason] for b in self.verdict.budgets]
        rows += [["", "", line] for line in doubts(self.verdict)]
        return table + html_table(("", "budget", "reason"), rows)


def compare(
    candidate: Bundle | Path | str,
    baseline: Bundle | Path | str,
    *,
    limit: float | None,
    recipe: LoadedRecipe | None,
    home: Path | str | None,
    threads: int,
    seconds: float,
) -> ComparisonView:
    """Compare a candidate with a baseline, and judge it by the ``limit``; see `rarefy.compare`."""
    check_threads(threads)
    if limit is not None and not 0 < limit < 1:
        raise RecipeError(f"max_regression: {limit!r} is not a share between 0 and 1, such as 0.05")
    if isinstance(candidate, Bundle):
        place, side = candidate.home, candidate.files
    else:
        place = Home.of(home)
        side = bundles.find(bundles.named(candidate), place)
    whose = recipe_of(side.name, recipe, place)
    task, split = comparing.labelled_rows(side, whose.recipe.data, whose.base, [])
    runs_on: Any = own_provider.chosen(side.directory, None)
    target = Target(provider=runs_on, threads=threads)
    compared = comparing.compare(
        side,
        bundles.named(baseline.files.directory if isinstance(baseline, Bundle) else baseline),
        task,
        split,
        place,
        target=target,
        effort=Effort(rows=200, processes=5, seconds=seconds),
        margin=limit or comparing.MARGIN,
    )
    judged = None if limit is None else comparing.judge(compared, limit, target)
    return ComparisonView(compared, judged)


def _difference(scores: dict[str, Any], unit: str) -> str:
    """Return the difference of the main scores with its interval, and what it rests on."""
    form, word = (signed, " points") if unit == "%" else (_plus, "")
    value, low, high = (form(scores["difference"][end]) for end in Interval._fields)
    p, blocks = scores["p"], plural(scores["blocks"], scores["block"])
    if scores["groups"]:
        blocks += f" in {plural(scores['groups'], 'group')}"
    test = "Fisher" if scores["groups"] else "McNemar"
    basis = f", a bootstrap of {blocks}" if p is None else f", {test} p = {p:.3g}"
    return f"{value}{word} [{low}, {high}]" + (basis if scores["tested"] else "")


def _flips(scores: dict[str, Any]) -> str:
    """Return how many answers differ, and how many blocks only one side has right."""
    flips, answers, blocks = (scores[key] for key in ("flips", "answers", "blocks"))
    of = f"of {plural(blocks, scores['block'])}"
    changes = f"{scores['gains']} better, {scores['losses']} worse"
    if answers == blocks:
        return f"{flips} {of} differ: {changes}"
    return f"{flips} of {plural(answers, 'answer')} differ; {of}, {changes}"


def _plus(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")


def _bounds(interval: dict[str, float], unit: str) -> str:
    return bounds(Interval(**interval), unit)
