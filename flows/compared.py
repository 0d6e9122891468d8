"""A comparison as people look at it: a table in a terminal, HTML in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from flows.display import as_text, verdict_table
from flows.planned import html_table
from pipeline.release.comparison import SIDES, Compared
from pipeline.verdict.verdict import Verdict

CHANGES = {
    "regression": "slower by more than",
    "improvement": "faster by more than",
    "equal": "the same, give or take",
    "inconclusive": "undecided at",
}


@dataclass(frozen=True)
class ComparisonView:
    """A candidate beside a baseline; ``verdict`` is None if nothing was to be judged."""

    compared: Compared
    verdict: Verdict | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all numbers; differences are candidate − baseline, ratios candidate / baseline."""
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
        """Return what is compared: its name, both sides, and how they differ."""
        numbers = self.as_json()
        models, scores, times = numbers["models"], numbers["accuracy"], numbers["latency"]
        change = _interval(scores["difference"], "{:+.1%}")
        flips = f"{scores['flips']} of {numbers['rows']} rows differ: {scores['gains']} better"
        sizes = [models[side]["size"] for side in SIDES]
        counts = [models[side]["parameters"] for side in SIDES]
        rows = [
            [
                "accuracy",
                *(_interval(scores[side], "{:.1%}") for side in SIDES),
                f"{change}, McNemar p = {scores['mcnemar_p']:.3g}",
            ],
            [
                "agreement",
                _interval(scores["agreement"], "{:.1%}"),
                "",
                f"{flips}, {scores['losses']} worse",
            ],
            [
                f"latency p50 ({times['provider']}, {times['threads']} thread)",
                *(_interval(times[f"{side}_p50"], "{:.2f}") + " ms" for side in SIDES),
                f"{_interval(times['ratio'], '{:.2f}')}× as long: "
                f"{CHANGES[times['change']]} {times['margin']:.1%}",
            ],
            ["size", *(f"{size / 1e6:.1f} MB" for size in sizes), _times(*sizes)],
        ]
        if all(counts):
            rows.append(["parameters", *(f"{n / 1e6:.2f} M" for n in counts), _times(*counts)])
        return rows

    def __repr__(self) -> str:
        judged = f"\n{as_text(verdict_table(self.verdict))}" if self.verdict else ""
        return as_text(self.table()) + judged

    def _repr_html_(self) -> str:
        return html_table(("", *SIDES, "candidate against baseline"), self.rows())


def _times(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}× as much"


def _interval(found: dict[str, float], form: str) -> str:
    value, low, high = (form.format(found[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
