"""The result of a run: its verdict, ledger, figures and files, as text and for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import overload

from rich.table import Table

from flows.display import as_text, doubts, verdict_line, verdict_table
from flows.planned import html_table
from pipeline.report import wording
from pipeline.report.pictures import pictures
from pipeline.run.outcome import Outcome
from pipeline.terms.errors import RarefyError
from pipeline.terms.outcomes import SYMBOL
from pipeline.verdict.record import LedgerRow
from pipeline.verdict.verdict import Verdict

COLUMNS = ("stage", "kind", "score", "95 % interval", "parameters", "size", "time", "artifact")


@dataclass(frozen=True)
class Picture:
    """A figure as SVG text, which a notebook displays."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


class Ledger(Sequence[LedgerRow]):
    """The finished stages in order, each with its score, parameters, size and time."""

    def __init__(self, rows: Sequence[LedgerRow]) -> None:
        self._rows = tuple(rows)

    @overload
    def __getitem__(self, at: int) -> LedgerRow: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[LedgerRow]: ...
    def __getitem__(self, at: int | slice) -> LedgerRow | Sequence[LedgerRow]:
        return self._rows[at]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[LedgerRow]:
        return iter(self._rows)

    def __repr__(self) -> str:
        table = Table(*COLUMNS, box=None, pad_edge=False)
        for row in self._rows:
            table.add_row(*_cells(row))
        return as_text(table)

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, [_cells(row) for row in self._rows])


@dataclass(frozen=True)
class Result:
    """The outcome and the files of a run. A missed budget is a result, not an exception."""

    outcome: Outcome
    paths: dict[str, str]
    unrecorded: RarefyError | None = None
    """Why a verdict that is not a pass could not be added to the history."""

    def exit_code(self, strict: bool) -> int:
        """Return the exit code of the verdict, but never 0 if it is missing in the history."""
        code = self.outcome.exit_code(strict)
        return code or (self.unrecorded.exit_code if self.unrecorded else 0)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the budgets, or None if nothing was judged."""
        return self.outcome.data.verdict

    @property
    def ledger(self) -> Ledger:
        """A row for each finished stage."""
        return Ledger(self.outcome.data.ledger)

    @property
    def warnings(self) -> list[str]:
        """Warnings about the data, such as which rows were dropped and why."""
        return self.outcome.data.warnings

    @property
    def report(self) -> Path:
        """The path of report.html."""
        return Path(self.paths["report"])

    @property
    def bundle(self) -> Path | None:
        """The folder of the ONNX bundle, or None if the recipe makes none."""
        return Path(self.paths["bundle"]) if "bundle" in self.paths else None

    @property
    def figures(self) -> dict[str, Picture]:
        """The report's figures by name: ledger, trade-off and latency by target, lineage."""
        return {name: Picture(text) for name, text in pictures(self.outcome.data).items()}

    def __repr__(self) -> str:
        judged = self.verdict
        table = as_text(verdict_table(judged)) + "\n" if judged else ""
        why = "".join(f"{line}\n" for line in doubts(judged))
        line = verdict_line(judged, self.outcome.data.absent)
        return f"{table}{why}{line}\nreport: {self.report}"

    def _repr_html_(self) -> str:
        rows = [
            [SYMBOL[b.outcome], b.metric, wording.requirement(b), b.reason]
            for b in (self.verdict.budgets if self.verdict else ())
        ]
        why = doubts(self.verdict)
        line = verdict_line(self.verdict, self.outcome.data.absent)
        said = "".join(f"<p>{escape(each)}</p>" for each in (line, *why, f"report: {self.report}"))
        table = html_table(("", "metric", "budget", "measured"), rows) if rows else ""
        return said + table


def _cells(row: LedgerRow) -> list[str]:
    score = interval = ""
    if row.accuracy:
        score, low, high = (wording.score(value, row.metric) for value in row.accuracy)
        interval = f"{low} – {high}"
    return [
        row.id,
        wording.kind(row.kind),
        score,
        interval,
        "" if row.parameters is None else wording.count(row.parameters),
        wording.size(row.size),
        "cached" if row.cached else wording.duration(row.seconds),
        row.digest[:12],
    ]
