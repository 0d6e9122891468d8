"""The result of a run: its verdict, ledger, figures and files, as text and for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rarefy.flows.console.display import doubts, verdict_line, verdict_table
from rarefy.flows.console.options import Shown, as_text, plain_table
from rarefy.pipeline.report import wording
from rarefy.pipeline.report.pictures import pictures
from rarefy.pipeline.run.outcome import Outcome
from rarefy.pipeline.terms.errors import RarefyError
from rarefy.pipeline.verdict.record import LedgerRow
from rarefy.pipeline.verdict.verdict import Verdict

COLUMNS = ("stage", "kind", "score", "95% interval", "parameters", "size", "time", "artifact")


@dataclass(frozen=True)
class Picture:
    """A figure as SVG text, which a notebook displays."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


class Ledger(Shown, tuple[LedgerRow, ...]):
    """The finished stages in order, each with its score, parameters, size and time."""

    def __repr__(self) -> str:
        table = plain_table(*COLUMNS)
        for row in self:
            table.add_row(*_cells(row))
        return as_text(table)


@dataclass(frozen=True)
class Result(Shown):
    """The outcome and the files of a run. A missed budget is a result, not an exception."""

    outcome: Outcome
    paths: dict[str, str]
    unrecorded: RarefyError | None = None
    """Why a verdict that is not a pass could not be added to the history."""

    def exit_code(self, strict: bool) -> int:
        """Return the exit code of the verdict, but never 0 if it is missing in the history."""
        code = self.outcome.exit_code(strict)
        if code == 0 and self.unrecorded is not None:
            return self.unrecorded.exit_code
        return code

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
        if "bundle" not in self.paths:
            return None
        return Path(self.paths["bundle"])

    @property
    def figures(self) -> dict[str, Picture]:
        """The report's figures by name: ledger, trade-off and latency by target."""
        drawings = pictures(self.outcome.data)
        return {name: Picture(svg) for name, svg in drawings.items()}

    def __repr__(self) -> str:
        verdict = verdict_line(self.verdict, self.outcome.data.absent)
        lines = [*doubts(self.verdict), verdict, f"report: {self.report}"]
        if self.verdict is not None:
            lines.insert(0, as_text(verdict_table(self.verdict)))
        return "\n".join(lines)


def _cells(row: LedgerRow) -> list[str]:
    score = interval = parameters = ""
    time = "cached"
    if row.accuracy:
        score, low, high = (wording.score(value, row.metric) for value in row.accuracy)
        interval = f"{low} – {high}"
    if row.parameters is not None:
        parameters = wording.count(row.parameters)
    if not row.cached:
        time = wording.duration(row.seconds)
    kind = wording.kind(row.kind)
    size = wording.size(row.size)
    return [row.id, kind, score, interval, parameters, size, time, row.digest[:12]]
