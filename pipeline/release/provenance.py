"""Find what is known of a bundle, in the runs and in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from pipeline.model import hub
from pipeline.release.bundles import Bundle
from pipeline.run import folder, names
from pipeline.store.artifact import Manifest
from pipeline.store.home import Home
from pipeline.terms.errors import RarefyError
from pipeline.verdict.history import FILE, History
from pipeline.verdict.provenance import DISTILL, IMPORT, Provenance, judges
from pipeline.verdict.record import ReportData
from pipeline.verdict.verdict import Verdict

Step = tuple[str, dict[str, Any]]
"""A stage's name and its parameters."""


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


def pages(provenance: Provenance, bundle: Bundle) -> list[Path]:
    """Return the run's pages for people that are about a bundle.

    If the run measured another bundle, its pages are about that one. The page of its verdict is
    about this one only if no newer verdict has another outcome.
    """
    record, newest = provenance.record, provenance.verdict
    if record is None or provenance.run is None:
        return []
    if record.measurements is not None and not provenance.judges(bundle.digest):
        return []
    files = [names.REPORT, names.SUMMARY]
    outcome = newest.outcome if newest is not None else None
    if record.verdict is not None and record.verdict.outcome == outcome:
        files.append(names.VERDICT)
    paths = [provenance.run / name for name in files]
    return [path for path in paths if path.is_file()]


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
        if record.verdict is not None and judges(record, bundle.digest):
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
