"""Budgets against a model that has learned nothing: a share of nothing is no verdict."""

from __future__ import annotations

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.measure.predictions import floor
from rarefy.pipeline.terms.metrics import known
from rarefy.pipeline.verdict.verdict import BudgetResult

BESIDE = ("agreement", "divergence", "speedup")
"""The kinds of metrics that compare with the first reference if the budget does not say which."""


class Footing:
    """The references of some measurements, and which of them have learned nothing."""

    def __init__(self, measurements: Measurements) -> None:
        self._measured = measurements
        self._said: dict[str, str | None] = {}

    def check(self, result: BudgetResult) -> BudgetResult:
        """Return a result as it is, or inconclusive if its reference has learned nothing."""
        name = self._reference(result)
        if name is None:
            return result
        if name not in self._said:
            self._said[name] = floor.of_model(self._measured, name)
        said = self._said[name]
        if said is None:
            return result
        reason = f"{result.reason}; inconclusive because {result.against or name} {said}"
        return result.model_copy(update={"outcome": "inconclusive", "reason": reason})

    def _reference(self, result: BudgetResult) -> str | None:
        if result.against:
            name = self._measured.name_of(result.against)
        else:
            beside = known(result.metric).kind in BESIDE
            name = next(iter(self._measured.references), None) if beside else None
        return None if name == CANDIDATE else name
