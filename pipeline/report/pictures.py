"""The report's figures as pictures that stand alone: in a notebook, in a README."""

from __future__ import annotations

from pipeline.measure.measurements import CANDIDATE
from pipeline.report import accuracy, facts
from pipeline.report.figures import svg
from pipeline.report.figures.distribution import distribution
from pipeline.report.figures.ledger import ledger
from pipeline.report.figures.lineage import lineage
from pipeline.report.figures.reliability import reliability
from pipeline.report.figures.tradeoff import tradeoff
from pipeline.verdict.record import ReportData

WIDE, HALF = 960, 560


def pictures(data: ReportData, theme: str = "light") -> dict[str, str]:
    """Return name -> SVG with a background of its own, for every figure that the run can fill.

    Raises KeyError if ``theme`` is neither "light" nor "dark".
    """
    palette = svg.THEMES[theme]
    drawn: dict[str, str] = {}
    if data.ledger:
        drawn["ledger"] = ledger(data, palette, WIDE, "ledger", margin=16)
    for target in data.measurements.latency if data.measurements else ():
        timed = data.measurements.latency[target].samples if data.measurements else {}
        if points := facts.points(data, target):
            name = f"tradeoff {target}"
            drawn[name] = tradeoff(points, palette, HALF, name.replace(" ", "-"))
        compared = [CANDIDATE, facts.reference(data)]
        series = {
            model: calls for model in compared if model and (calls := facts.pooled(timed, model))
        }
        if series:
            name = f"latency {target}"
            drawn[name] = distribution(series, palette, HALF, name.replace(" ", "-"))
    view = accuracy.build(data)
    if view is not None and view.calibration:
        bins = {model: found.bins for model, found in view.calibration.items()}
        drawn["reliability"] = reliability(bins, palette, HALF, "reliability")
    if data.lineage:
        drawn["lineage"] = lineage(data.lineage, palette, HALF, "lineage")
    return {name: _on_ground(picture, palette) for name, picture in drawn.items()}


def _on_ground(picture: str, palette: svg.Palette) -> str:
    """Put a picture on a background in the palette's colour."""
    start = picture.index("<title")
    ground = f'<rect width="100%" height="100%" rx="8" fill="{palette.surface}"/>'
    return picture[:start] + ground + picture[start:]
