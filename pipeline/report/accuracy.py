"""The report's details on accuracy: slices, classes, calibration and example rows."""

from __future__ import annotations

from dataclasses import dataclass

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.measure.predictions import examples, slices
from rarefy.pipeline.measure.predictions import per_class as classes
from rarefy.pipeline.measure.predictions.per_class import Calibration, ClassResult
from rarefy.pipeline.measure.predictions.slices import SIGNIFICANT, SliceResult
from rarefy.pipeline.report import facts
from rarefy.pipeline.verdict.record import ReportData

TITLES = {
    examples.LOST: "Regressions: only {reference} is correct",
    examples.WON: "Improvements: only the candidate is correct",
    examples.SURE: "Confidently wrong: the candidate’s other errors, most confident first",
}
HEADINGS = {"sureness": "confidence"}
"""Column names for readers, if they differ from the keys in measurements.json."""


@dataclass(frozen=True)
class Examples:
    """Example rows of one kind: a title, the column names, and the cells of each row."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    @property
    def count(self) -> int:
        """How many rows it has."""
        return len(self.rows)


@dataclass(frozen=True)
class AccuracyView:
    """Candidate against ``reference``; ``slices`` worst first, ``classes`` most flips first.

    ``sharp``: whether classes have a recall at 1% false positives. ``marked``: what they are the
    labels of.
    """

    reference: str
    slices: list[SliceResult]
    classes: list[ClassResult]
    calibration: dict[str, Calibration]
    examples: list[Examples]
    sharp: bool = False
    marked: str = "row"


def build(data: ReportData) -> AccuracyView | None:
    """Return the view; None unless both the candidate and a reference were measured."""
    sides = facts.compared(data)
    if sides is None or not sides[0].truth:
        return None
    measured, reference = sides
    by_class = classes.compare(measured, reference)
    return AccuracyView(
        reference=reference,
        slices=slices.compare(measured, reference),
        classes=sorted(by_class, key=lambda result: -(result.lost + result.won)),
        calibration=_calibrations(measured, reference),
        examples=example_tables(measured.samples, measured.references[0]),
        marked=measured.scored_by.presenter.table_rows,
        sharp=any(result.candidate.recall_1_fpr is not None for result in by_class),
    )


def _calibrations(measured: Measurements, reference: str) -> dict[str, Calibration]:
    """Return the calibration of both models; empty if they do not choose one class of several."""
    calibrations = {}
    has_ece = "ece" in measured.scored_by.scorer.formulas(measured.truth)
    for model in (CANDIDATE, reference):
        calibrated = None
        if has_ece:
            calibrated = classes.calibration(measured, model)
        if calibrated is not None:
            calibrations[model] = calibrated
    return calibrations


def describe_test(part: SliceResult) -> str:
    """Return the result of the corrected test on a slice, with its p-value."""
    if part.corrected_p >= SIGNIFICANT:
        result = "no significant difference"
    elif part.worse:
        result = "significantly worse"
    else:
        result = "significantly better"
    return f"{result} ({chance(part.corrected_p)})"


def chance(p: float) -> str:
    """Return a p-value as ``p = 0.031`` or ``p < 0.001``."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2g}"


def example_tables(samples: list[dict[str, str]], reference: str) -> list[Examples]:
    """Group the example rows by kind, in the order of ``TITLES``, unknown kinds last."""
    kinds: dict[str, list[dict[str, str]]] = {kind: [] for kind in TITLES}
    for sample in samples:
        kinds.setdefault(sample.get("kind", ""), []).append(sample)
    groups = []
    for kind, rows in kinds.items():
        if not rows:
            continue
        keys: dict[str, None] = {}
        for row in rows:
            keys |= dict.fromkeys(row)
        keys.pop("kind", None)
        title = TITLES.get(kind, kind or "Example rows")
        cells = [[row.get(key, "") for key in keys] for row in rows]
        headings = [HEADINGS.get(key, key) for key in keys]
        groups.append(Examples(title.format(reference=reference), headings, cells))
    return groups
