"""A comparison from Python, and its readable form: a table in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from rarefy.flows.console.display import doubts, verdict_table
from rarefy.flows.console.options import Shown, as_text, plain_table
from rarefy.pipeline.model.runtime import bundle_files
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.release import bundles
from rarefy.pipeline.release import compare as comparing
from rarefy.pipeline.release.compare import SIDES, Comparison, Effort
from rarefy.pipeline.release.origin import recipe_of
from rarefy.pipeline.release.predict import Bundle
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms import metrics, wording
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import Target, check_threads
from rarefy.pipeline.terms.wording import bounds, count, exactly, percent, plural, signed, size
from rarefy.pipeline.verdict.verdict import Verdict

COLUMNS = ("", *SIDES, "candidate against baseline")
CHANGES = {
    "regression": "slower by more than",
    "improvement": "faster by more than",
    "equal": "equal within",
    "inconclusive": "inconclusive at",
}


@dataclass(frozen=True)
class ComparisonView(Shown):
    """A candidate compared with a baseline; ``verdict`` is None if no limit was given."""

    comparison: Comparison
    verdict: Verdict | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all numbers: differences are candidate − baseline, ratios candidate ÷ baseline."""
        return self.comparison.as_json()

    def table(self) -> Table:
        """Return the comparison as a table for terminals, with the names of both sides."""
        table = plain_table(*COLUMNS)
        candidate, baseline = (self.comparison.names[side] for side in SIDES)
        table.add_row("", candidate, baseline, "")
        for row in self.rows():
            table.add_row(*row)
        return table

    def rows(self) -> list[list[str]]:
        """Return a row for each quantity: its name, both values, and how they differ."""
        numbers = self.as_json()
        models, scores = numbers["models"], numbers["accuracy"]
        agreement = _bounds(scores["agreement"], "%")
        main = scores["metric"].replace("_", " ")
        further = []
        for score in numbers["scores"]:
            row = _score_row(score["metric"], score)
            further.append(row)
        rows = [
            _score_row(main, scores),
            *further,
            ["agreement", agreement, "", _flips(scores)],
            _latency_row(numbers["latency"]),
        ]
        if "throughput" in numbers:
            rows.append(_throughput_row(numbers["throughput"]))
        formats = {"size": size, "parameters": count}
        for name, format_value in formats.items():
            candidate, baseline = (models[side][name] for side in SIDES)
            if not candidate or not baseline:
                continue
            ratio = wording.times(candidate / baseline)
            values = [format_value(candidate), format_value(baseline)]
            rows.append([name, *values, f"{ratio} the baseline's"])
        return rows

    def page(self, notes: Sequence[str] = ()) -> str:
        """Return the comparison as an HTML page; ``notes``: what disturbed the measurement."""
        from rarefy.pipeline.report import comparison as report

        compared = self.comparison
        candidate, baseline = (compared.names[side] for side in SIDES)
        shown = report.Compared(
            names=(candidate, baseline),
            measurements=compared.measurements,
            baseline=comparing.BASELINE,
            latency=compared.latency,
            ratio=compared.change.ratio,
            rows=self.rows(),
            verdict=self.verdict,
            notes=notes,
        )
        return report.render(shown)

    def __repr__(self) -> str:
        table = as_text(self.table())
        if self.verdict is None:
            return table
        budgets = as_text(verdict_table(self.verdict))
        return "\n".join([table, budgets, *doubts(self.verdict)])


def compare(
    candidate: Bundle | Path | str,
    baseline: Bundle | Path | str,
    *,
    limit: float | None,
    recipe: LoadedRecipe | None,
    home: Path | str | None,
    threads: int,
    seconds: float,
    throughput: bool,
) -> ComparisonView:
    """Compare a candidate with a baseline, and judge it by the ``limit``; see `rarefy.compare`."""
    check_threads(threads)
    if limit is not None and not 0 < limit < 1:
        raise RecipeError(f"max_regression: {limit!r} is not a share between 0 and 1, such as 0.05")
    if isinstance(candidate, Bundle):
        place, bundle = candidate.home, candidate.files
    else:
        place = Home.of(home)
        bundle = bundles.find(bundles.named(candidate), place)
    if isinstance(baseline, Bundle):
        baseline = baseline.files.directory
    source = recipe_of(bundle.name, recipe, place)
    data = source.recipe.data
    task, split = comparing.read_rows(bundle, data, source.base, [])
    provider: Any = bundle_files.chosen_provider(bundle.directory, None)
    target = Target(provider=provider, threads=threads)
    comparison = comparing.compare(
        bundle,
        bundles.named(baseline),
        task,
        split,
        place,
        target=target,
        effort=Effort(rows=200, processes=5, seconds=seconds, throughput=throughput),
        margin=limit or comparing.MARGIN,
        budgets=source.recipe.budgets,
    )
    verdict = None
    if limit is not None:
        budgets = source.recipe.budgets
        verdict = comparing.judge(comparison, limit, target, budgets)
    return ComparisonView(comparison, verdict)


def _score_row(name: str, scores: dict[str, Any]) -> list[str]:
    """Return the row of a score; of the main one, with what the difference rests on."""
    unit = metrics.unit(scores["metric"])
    values = []
    for side in SIDES:
        shown = _bounds(scores[side], unit)
        values.append(shown)
    difference = _difference(scores, unit)
    if scores.get("tested"):
        basis = _basis(scores)
        difference = f"{difference}, {basis}"
    return [name, *values, difference]


def _latency_row(times: dict[str, Any]) -> list[str]:
    """Return the row of the median latency."""
    provider = times["provider"]
    threads = plural(times["threads"], "thread")
    values = []
    for side in SIDES:
        median = times[f"{side}_p50"]
        shown = _bounds(median, "ms")
        values.append(shown)
    comparison = _change(times)
    name = f"latency p50 ({provider}, {threads})"
    return [name, *values, comparison]


def _throughput_row(rates: dict[str, Any]) -> list[str]:
    """Return the row of rows a second, each side in batches of the size that is best for it."""
    workers = plural(rates["workers"], "worker")
    threads = plural(rates["threads"], "thread")
    values = []
    for side in SIDES:
        rate = _bounds(rates[side], "rows/s")
        batch = rates["batch"][side]
        values.append(f"{rate} in batches of {batch}")
    comparison = _change(rates)
    name = f"throughput ({workers} × {threads})"
    return [name, *values, comparison]


def _change(numbers: dict[str, Any]) -> str:
    """Return the ratio of times or rates, and whether it is a change."""
    ratio = _bounds(numbers["ratio"], "×")
    change = CHANGES[numbers["change"]]
    margin = exactly(percent, numbers["margin"])
    return f"{ratio} the baseline's: {change} {margin}"


def _difference(scores: dict[str, Any], unit: str) -> str:
    """Return the difference of two scores with its interval."""
    if unit == "%":
        format_value, word = signed, " points"
    else:
        format_value, word = _plus, ""
    difference = scores["difference"]
    value, low, high = (format_value(difference[end]) for end in Interval._fields)
    return f"{value}{word} [{low}, {high}]"


def _basis(scores: dict[str, Any]) -> str:
    """Return the test of a difference with its p-value, or what its interval was drawn from."""
    groups, p = scores["groups"], scores["p"]
    if p is not None:
        test = "Fisher" if groups else "McNemar"
        return f"{test} p = {p:.3g}"
    blocks = plural(scores["blocks"], scores["block"])
    if groups:
        blocks += f" in {plural(groups, 'group')}"
    return f"a bootstrap of {blocks}"


def _flips(scores: dict[str, Any]) -> str:
    """Return how many predictions differ, and how many blocks only one side predicts correctly."""
    flips = scores["flips"]
    predictions = scores["answers"]
    blocks = scores["blocks"]
    counted = plural(blocks, scores["block"])
    total = f"of {counted}"
    gains = scores["gains"]
    losses = scores["losses"]
    changes = f"{gains} better, {losses} worse"
    if predictions == blocks:
        return f"{flips} {total} differ: {changes}"
    count_of_predictions = plural(predictions, "answer")
    return f"{flips} of {count_of_predictions} differ; {total}, {changes}"


def _plus(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")


def _bounds(interval: dict[str, float], unit: str) -> str:
    return bounds(Interval(**interval), unit)
