"""The report's figures as standalone pictures, for a notebook or a README."""

from __future__ import annotations

from pipeline.measure.measurements import CANDIDATE
from pipeline.report import accuracy, facts
from pipeline.report.figures import chart
from pipeline.report.figures.distribution import distribution
from pipeline.report.figures.ledger import ledger
from pipeline.report.figures.lineage import lineage
from pipeline.report.figures.reliability import reliability
from pipeline.report.figures.tradeoff import tradeoff
from pipeline.verdict.record import ReportData

MARGIN = 16
WIDE, HALF = 960 - 2 * MARGIN, 560 - 2 * MARGIN
_NAMES = ("surface", "ink", "muted", "line", "accent", "other", "limit")
_LIGHT = ("#fcfbf9", "#1d1c1a", "#625e58", "#e2ded6", "#0b6b66", "#87817a", "#a3420f")
_DARK = ("#161719", "#ecebe7", "#a8a49d", "#34353a", "#5ecbc1", "#8f8b85", "#f0a070")
THEMES = {
    "light": dict(zip(_NAMES, _LIGHT, strict=True)),
    "dark": dict(zip(_NAMES, _DARK, strict=True)),
}


def pictures(data: ReportData, theme: str = "light") -> dict[str, str]:
    """Return name -> SVG with its own background, for every figure that the run has data for.

    Raises KeyError if ``theme`` is neither "light" nor "dark".
    """
    drawn: dict[str, str] = {}
    if data.ledger:
        drawn["ledger"] = ledger(data, WIDE, "ledger")
    for target in data.measurements.latency if data.measurements else ():
        assert data.measurements is not None
        timed, main = data.measurements.latency[target].samples, data.measurements.main
        if points := facts.points(data, target):
            name = f"tradeoff {target}"
            drawn[name] = tradeoff(points, HALF, name.replace(" ", "-"), main)
        compared = [CANDIDATE, facts.reference(data)]
        samples = {model: timed[model] for model in compared if model and any(timed.get(model, []))}
        if samples:
            name = f"latency {target}"
            drawn[name] = distribution(samples, HALF, name.replace(" ", "-"))
    view = accuracy.build(data)
    if view is not None and view.calibration:
        bins = {model: found.bins for model, found in view.calibration.items()}
        drawn["reliability"] = reliability(bins, HALF, "reliability")
    if data.lineage:
        drawn["lineage"] = lineage(data.lineage, HALF, "lineage")
    return {name: stand_alone(picture, theme) for name, picture in drawn.items()}


def stand_alone(picture: str, theme: str) -> str:
    """Return a picture with fixed colours instead of the page's, a margin and a background.

    Raises KeyError if ``theme`` is neither "light" nor "dark".
    """
    return chart.stand_alone(picture, THEMES[theme], MARGIN)
