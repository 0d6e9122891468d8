"""What is known of a bundle: its run and the verdict on it, the model it was made of, the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.measure.measurements import CANDIDATE
from pipeline.model import hub
from pipeline.release.bundles import Bundle
from pipeline.run import folder, names
from pipeline.store.artifact import Manifest
from pipeline.store.home import Home
from pipeline.terms.errors import RarefyError
from pipeline.verdict.history import FILE, History
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

    def judges(self, bundle: Bundle) -> bool:
        """Return whether the run's measurements and verdict are about this bundle.

        A run may export several; the others are in its ledger only.
        """
        return self.record is not None and _judges(self.record, bundle)

    @property
    def caveat(self) -> str | None:
        """What the verdict is and why, if it is not a pass; None if it is, or if there is none."""
        if self.verdict is None or self.verdict.outcome == "pass":
            return None
        reasons = (*self.verdict.missed, *self.verdict.evidence, *self.verdict.undecided)
        return ": ".join((f"the verdict on this bundle is {self.verdict.outcome}", *reasons[:1]))

    def scored(self, bundle: Bundle) -> LedgerRow | None:
        """Return the bundle's row of the ledger; None if the run did not score it."""
        rows = self.record.ledger if self.record else []
        return next((row for row in rows if row.digest == bundle.digest and row.accuracy), None)


def of(bundle: Bundle, home: Home) -> Provenance:
    """Return what the runs and the store in ``home`` know of a bundle."""
    runs = list(_records(bundle, home))
    run, record = runs[0] if runs else (None, None)
    chain = list(_chain(bundle, home))
    model = licence = None
    if chain and chain[-1].stage.name == IMPORT and chain[-1].source is not None:
        model, licence = chain[-1].source.reference, chain[-1].source.licence
    steps = [(manifest.stage.name, manifest.stage.parameters) for manifest in reversed(chain)]
    if record is not None and model is None:
        steps = [(node.stage, node.parameters) for node in record.lineage if node.kind != "report"]
        model = next((str(given["reference"]) for name, given in steps if name == IMPORT), None)
    students = [
        given["student"] for name, given in steps if name == DISTILL and given.get("student")
    ]
    if students:  # what was imported is the teacher
        model, licence = str(students[-1]), None
    named = _datasets(record.recipe if record else "")
    return Provenance(
        run=run,
        record=record,
        model=model,
        licence=licence,
        stages=tuple(name for name, _ in steps),
        datasets=tuple(dict.fromkeys(named.values())),
        tested=named.get("eval"),
        verdict=_newest(bundle, home, [each for _, each in runs if _judges(each, bundle)]),
    )


def _newest(bundle: Bundle, home: Home, records: Sequence[ReportData]) -> Verdict | None:
    """Return the verdict on a bundle's newest measurements, of runs' records and the history."""
    found = [
        ((record.measured, record.created), record.verdict) for record in records if record.verdict
    ]
    with suppress(RarefyError):  # a damaged history says nothing; `rarefy promote` names it
        for one in History(home.path / FILE).verdicts(bundle=bundle.digest):
            verdict = Verdict(
                outcome=one.standing,
                bundle=bundle.digest,
                budgets=one.budgets,
                evidence=one.evidence,
            )
            found.append(((one.measured, one.time), verdict))
    return max(found, key=lambda each: each[0])[1] if found else None


def _judges(record: ReportData, bundle: Bundle) -> bool:
    measured = record.measurements
    return measured is not None and measured.models[CANDIDATE].digest == bundle.digest


def _records(bundle: Bundle, home: Home) -> Iterator[tuple[Path, ReportData]]:
    """Yield the runs that made the bundle, its own folder's first, then the newest."""
    beside = bundle.directory.parent / names.RECORD
    others = sorted(home.runs.glob(f"*/{names.RECORD}"), key=_age)
    for path in filter(Path.is_file, (beside, *others)):
        try:
            if bundle.digest not in path.read_text(encoding="utf-8"):
                continue
            record = folder.read(path.parent)
        except (OSError, ValueError, RarefyError):
            continue  # a damaged record says nothing; `rarefy report` names it
        if any(node.digest == bundle.digest for node in record.lineage):
            yield path.parent, record


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:  # a run that replaces it has just removed it
        return 0.0


def _chain(bundle: Bundle, home: Home) -> Iterator[Manifest]:
    """Yield the manifests from the bundle back to the imported model, as far as the store knows.

    A damaged or deleted one ends the chain: the bundle itself is whole.
    """
    manifest = bundle.manifest
    store = home.store() if (home.path / "store").is_dir() else None  # or it would be created
    while manifest is not None:
        yield manifest
        before = next((each.digest for each in manifest.parents if each.role == "input"), None)
        try:
            manifest = store.open(before).manifest if store and before else None
        except RarefyError:
            return


def _datasets(recipe: str) -> dict[str, str]:
    """Return split -> the name of its data set on the Hub, of the splits that come from there."""
    try:
        data = (yaml.safe_load(recipe) or {}).get("data") or {}
    except (yaml.YAMLError, AttributeError, ValueError, RecursionError):
        return {}
    return {
        split: str(value).removeprefix(hub.PREFIX).partition("@")[0]
        for split, value in data.items()
        if str(value).startswith(hub.PREFIX)
    }
