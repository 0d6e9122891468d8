"""The readable form of a comparison: a table in a terminal, HTML in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from flows.display import as_text, verdict_table
from flows.planned import html_table
from pipeline.release.comparison import SIDES, Compared
from pipeline.terms import metrics, wording
from pipeline.terms.interval import Interval
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
        judged = f"\n{as_text(verdict_table(self.verdict))}" if self.verdict else ""
        return as_text(self.table()) + judged

    def _repr_html_(self) -> str:
        return html_table(("", *SIDES, "candidate against baseline"), self.rows())


def _difference(scores: dict[str, Any], unit: str) -> str:
    """Return the difference of the main scores with its interval, and what it rests on."""
    form, word = (signed, " points") if unit == "%" else (_plus, "")
    value, low, high = (form(scores["difference"][end]) for end in Interval._fields)
    p, blocks = scores["p"], plural(scores["blocks"], scores["block"])
    if scores["groups"]:
        blocks += f" in {plural(scores['groups'], 'group')}"
    test = "Fisher" if scores["groups"] else "McNemar"
    basis = f"a bootstrap of {blocks}" if p is None else f"{test} p = {p:.3g}"
    return f"{value}{word} [{low}, {high}], {basis}"


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
