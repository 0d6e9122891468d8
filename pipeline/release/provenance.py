"""What is known of a bundle: its run and the verdict on it, the model it was made of, the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
Step = tuple[str, dict[str, Any]]
"""A stage's name and its parameters."""


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
        verdict = self.verdict
        if verdict is None or verdict.outcome == "pass":
            return None
        caveat = f"the verdict on this bundle is {verdict.outcome}"
        reasons = [*verdict.missed, *verdict.evidence, *verdict.undecided]
        if reasons:
            caveat += f": {reasons[0]}"
        return caveat

    def scored(self, bundle: Bundle) -> LedgerRow | None:
        """Return the bundle's row of the ledger; None if the run did not score it."""
        if self.record is None:
            return None
        for row in self.record.ledger:
            if row.digest == bundle.digest and row.accuracy:
                return row
        return None


def of(bundle: Bundle, home: Home) -> Provenance:
    """Return what the runs and the store in ``home`` know of a bundle."""
    runs = list(_runs(bundle, home))
    run, record = runs[0] if runs else (None, None)
    chain = list(_chain(bundle, home))
    steps = [(manifest.stage.name, manifest.stage.parameters) for manifest in reversed(chain)]
    model = licence = None
    if chain and chain[-1].stage.name == IMPORT and chain[-1].source is not None:
        model, licence = chain[-1].source.reference, chain[-1].source.licence
    if record is not None and model is None:
        steps = [(node.stage, node.parameters) for node in record.lineage if node.kind != "report"]
        model = _imported(steps)
    student = _last_student(steps)
    if student is not None:  # what was imported is the teacher
        model, licence = student, None
    datasets = _datasets(record.recipe if record else "")
    return Provenance(
        run=run,
        record=record,
        model=model,
        licence=licence,
        stages=tuple(name for name, _ in steps),
        datasets=tuple(dict.fromkeys(datasets.values())),
        tested=datasets.get("eval"),
        verdict=_newest_verdict(bundle, home, runs),
    )


def _imported(steps: Sequence[Step]) -> str | None:
    """Return the reference of the model that a chain began with; None if it is not in it."""
    for name, parameters in steps:
        if name == IMPORT:
            return str(parameters["reference"])
    return None


def _last_student(steps: Sequence[Step]) -> str | None:
    """Return the last pretrained model that ``distill`` trained; None if there is none."""
    for name, parameters in reversed(steps):
        if name == DISTILL and parameters.get("student"):
            return str(parameters["student"])
    return None


def _newest_verdict(
    bundle: Bundle, home: Home, runs: Sequence[tuple[Path, ReportData]]
) -> Verdict | None:
    """Return the verdict on a bundle's newest measurements, of runs' records and the history."""
    dated: list[tuple[tuple[str, str], Verdict]] = []
    for _, record in runs:
        if record.verdict is not None and _judges(record, bundle):
            dated.append(((record.measured, record.created), record.verdict))
    with suppress(RarefyError):  # a damaged history says nothing; `rarefy promote` names it
        for past in History(home.path / FILE).verdicts(bundle=bundle.digest):
            verdict = Verdict(
                outcome=past.standing,
                bundle=bundle.digest,
                budgets=past.budgets,
                evidence=past.evidence,
            )
            dated.append(((past.measured, past.time), verdict))
    if not dated:
        return None
    _, newest = max(dated, key=lambda pair: pair[0])
    return newest


def _judges(record: ReportData, bundle: Bundle) -> bool:
    measurements = record.measurements
    return measurements is not None and measurements.models[CANDIDATE].digest == bundle.digest


def _runs(bundle: Bundle, home: Home) -> Iterator[tuple[Path, ReportData]]:
    """Yield the runs that made the bundle, its own folder's first, then the newest."""
    others = sorted(home.runs.glob(f"*/{names.RECORD}"), key=_age)
    for path in (bundle.directory.parent / names.RECORD, *others):
        if not path.is_file():
            continue
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
    store = None
    if (home.path / "store").is_dir():  # or it would be created
        store = home.store()
    while manifest is not None:
        yield manifest
        inputs = [parent.digest for parent in manifest.parents if parent.role == "input"]
        if store is None or not inputs:
            return
        try:
            manifest = store.open(inputs[0]).manifest
        except RarefyError:
            return


def _datasets(recipe: str) -> dict[str, str]:
    """Return split -> the name of its data set on the Hub, of the splits that come from there."""
    try:
        values = yaml.safe_load(recipe) or {}
        data = values.get("data") or {}
    except (yaml.YAMLError, AttributeError, ValueError, RecursionError):
        return {}
    datasets = {}
    for split, reference in data.items():
        if str(reference).startswith(hub.PREFIX):
            name, _, _ = str(reference).removeprefix(hub.PREFIX).partition("@")
            datasets[split] = name
    return datasets
