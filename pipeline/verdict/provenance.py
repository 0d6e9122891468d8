"""What is known of a bundle: its run and the verdict on it, the model it was made of, the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.measure.measurements import CANDIDATE
from pipeline.model import hub
from pipeline.verdict.record import LedgerRow, ReportData
from pipeline.verdict.verdict import Verdict

IMPORT, DISTILL = "import", "distill"
UNTRAINED = frozenset({IMPORT, "quantize", "export"})
"""The stages of a chain that learns nothing: what it makes is the model itself, quantized."""


@dataclass(frozen=True)
class Provenance:
    """The provenance of a bundle; what is not known is None, or empty.

    ``run``       the folder of the run that made the bundle, and ``record`` what is in it
    ``model``     the reference of the model whose weights it began with, as the recipe has it
    ``licence``   the licence that the model's card names
    ``stages``    the stages from the imported model to the bundle
    ``datasets``  the names of the recipe's data sets on the Hub
    ``tested``    the name of the data set on the Hub of which the eval split is
    ``verdict``   the newest verdict on the bundle, by a run or by `rarefy validate`
    """

    run: Path | None = None
    record: ReportData | None = None
    model: str | None = None
    licence: str | None = None
    stages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    tested: str | None = None
    verdict: Verdict | None = None

    @property
    def name(self) -> str | None:
        """The name of the run's recipe."""
        return self.record.name if self.record else None

    @property
    def base(self) -> str | None:
        """The model's name on the Hub, if it comes from there."""
        if self.model is None or not self.model.startswith(hub.PREFIX):
            return None
        return self.model.removeprefix(hub.PREFIX).partition("@")[0]

    @property
    def relation(self) -> str | None:
        """What the bundle is to the model, in the Hub's words: ``quantized`` or ``finetune``.

        None if the stages between them are not all known, or if it is the same model.
        """
        if IMPORT not in self.stages:
            return None
        if set(self.stages) <= UNTRAINED:
            return "quantized" if "quantize" in self.stages else None
        return "finetune"

    def judges(self, digest: str | None) -> bool:
        """Return whether the run's measurements and verdict are about the bundle of a digest.

        A run may export several; the others are in its ledger only.
        """
        return self.record is not None and judges(self.record, digest)

    @property
    def caveat(self) -> str | None:
        """What the verdict is and why, if it is not a pass; None if it is, or if there is none."""
        if self.verdict is None or self.verdict.outcome == "pass":
            return None
        reasons = (*self.verdict.missed, *self.verdict.evidence, *self.verdict.undecided)
        return ": ".join((f"the verdict on this bundle is {self.verdict.outcome}", *reasons[:1]))

    def scored(self, digest: str | None) -> LedgerRow | None:
        """Return a bundle's row of the ledger; None if the run did not score it."""
        rows = self.record.ledger if self.record else []
        return next((row for row in rows if row.digest == digest and row.accuracy), None)


def judges(record: ReportData, digest: str | None) -> bool:
    """Return whether the measurements of a run's record are about the bundle of a digest."""
    measurements = record.measurements
    return measurements is not None and measurements.models[CANDIDATE].digest == digest
