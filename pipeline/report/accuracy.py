"""The report's details on accuracy: slices, classes, calibration and example rows."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.measure import classes, examples, slices
from pipeline.measure.classes import Calibration, ClassResult
from pipeline.measure.measurements import CANDIDATE, Measurements
from pipeline.measure.slices import SIGNIFICANT, SliceResult
from pipeline.report import facts
from pipeline.verdict.record import ReportData

TITLES = {
    examples.LOST: "Lost: only {reference} is right",
    examples.WON: "Won: only the candidate is right",
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


@dataclass(frozen=True)
class AccuracyView:
    """Candidate against ``reference``; ``slices`` worst first, ``classes`` most flips first.

    ``sharp``: whether classes have a recall at 1 % false positives. ``marked``: what they are the
    labels of.
    """

    reference: str
    slices: list[SliceResult]
    classes: list[ClassResult]
    calibration: dict[str, Calibration]
    examples: list[Examples]
    sharp: bool = False
    marked: str = "row"


def sides(data: ReportData) -> tuple[Measurements, str] | None:
    """Return the measurements and the reference; None unless it and the candidate were measured."""
    measured, reference = data.measurements, facts.reference(data)
    if measured is None or reference is None or CANDIDATE not in measured.models:
        return None
    return (measured, reference) if measured.truth else None


def build(data: ReportData) -> AccuracyView | None:
    """Return the view; None unless both the candidate and a reference were measured."""
    compared = sides(data)
    if compared is None:
        return None
    measured, reference = compared
    by_class = classes.compare(measured, reference)
    calibrated = {}
    if measured.scored_by.by_class:
        for model in (CANDIDATE, reference):
            calibration = classes.calibration(measured, model)
            if calibration is not None:
                calibrated[model] = calibration
    return AccuracyView(
        reference=reference,
        slices=slices.compare(measured, reference),
        classes=sorted(by_class, key=lambda found: -(found.lost + found.won)),
        calibration=calibrated,
        examples=_examples(measured.samples, measured.references[0]),
        marked=measured.scored_by.marked,
        sharp=any(found.candidate.recall_1_fpr is not None for found in by_class),
    )


def in_words(part: SliceResult) -> str:
    """Return the result of the corrected test on a slice, with its p-value."""
    word = "no significant difference"
    if part.corrected_p < SIGNIFICANT:
        word = f"significantly {'worse' if part.worse else 'better'}"
    return f"{word} ({chance(part.corrected_p)})"


def chance(p: float) -> str:
    """Return a p-value as ``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _examples(samples: list[dict[str, str]], reference: str) -> list[Examples]:
    """Group the example rows by kind, in the order of ``TITLES``, unknown kinds last."""
    kinds = dict.fromkeys([*TITLES, *(sample.get("kind", "") for sample in samples)])
    groups = []
    for kind in kinds:
        rows = [sample for sample in samples if sample.get("kind", "") == kind]
        columns = list(dict.fromkeys(key for row in rows for key in row if key != "kind"))
        if rows:
            title = TITLES.get(kind, kind or "Example rows").format(reference=reference)
            cells = [[row.get(key, "") for key in columns] for row in rows]
            groups.append(Examples(title, [HEADINGS.get(key, key) for key in columns], cells))
    return groups
