"""The report's figures: pure functions from a run's data to SVG text, one figure a file."""

from pipeline.report.figures.ledger import ledger_svg

__all__ = ["ledger_svg"]
