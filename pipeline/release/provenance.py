"""Find what is known of a bundle, in the runs and in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

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
        verdict=_newest(bundle, home, [each for _, each in runs if judges(each, bundle.digest)]),
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
