"""Write a run's folder: report, summary, verdict, bundle and CI files, each replaced atomically.

Only files that rarefy wrote may be replaced or removed: ``--out`` can be any folder, and
``run.json`` or ``junit.xml`` are common names.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.run import names
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import MANIFEST, Artifact
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import EvidenceError, ProviderError, RecipeError
from rarefy.pipeline.verdict.record import ReportData

if TYPE_CHECKING:  # judging loads numpy, and `rarefy plan` only reads a folder
    from rarefy.pipeline.measure.measurements import Measurements
    from rarefy.pipeline.run.outcome import Outcome

_FINAL = "|".join(map(re.escape, (*names.FILES, names.BUNDLE)))
_UNFINISHED = re.compile(rf"\.({_FINAL})[-.][0-9a-f]{{32}}")
"""Temporary names: a file or folder that is being written or removed, beside its final name."""
_MARKS = {
    names.REPORT: rb'<meta name="generator" content="rarefy">|<p class="eyebrow"><span>rarefy<',
    names.SUMMARY: "\\A## (✓|✗|\\?|○) ".encode(),
    names.VERDICT: rb'"schema":\s*"rarefy\.verdict/',
    names.RECORD: rb'"schema":\s*"rarefy\.run/',
    names.ANSWERS: rb'"schema":\s*"rarefy\.answers/',
    names.DISAGREEMENTS: rb"\Adisagreement,",
    names.JUNIT: rb'<testsuites name="rarefy"',
}
"""What each file contains if rarefy wrote it."""
_MANIFEST = rb'"schema":\s*"rarefy\.artifact/'


def prepare(directory: Path) -> None:
    """Make a run's folder and lock it once, so that what forbids writing is known beforehand.

    Raises RecipeError if there can be no such folder, e.g. below a file, or if a file in it is not
    rarefy's, ProviderError if it cannot be written or locked.
    """
    with _holding(directory):
        check_ours(directory)


def write(outcome: Outcome, directory: Path) -> dict[str, str]:
    """Write a run's report, verdict, record, answers and a copy of its bundle; return their paths.

    Each file is replaced in one step, so a reader never sees half of one. The verdict is written
    last: if it is there, it is on the bundle beside it. Files of an earlier run that this one did
    not make are removed. Raises RecipeError if a file of that name is not rarefy's, ProviderError
    if the disk is full.
    """
    with _holding(directory):
        check_ours(directory)
        paths = {}
        if outcome.bundle is not None:
            paths["bundle"] = directory / names.BUNDLE
            fresh = _copy(outcome.bundle, paths["bundle"])
            _drop_verdict(directory)
            _swap(fresh, paths["bundle"])
        else:
            _drop_verdict(directory)
            _drop_bundle(directory)
        for name in names.CI_FILES.values():  # `rarefy ci` draws them again
            (directory / name).unlink(missing_ok=True)
        _record(outcome.data, directory)
        paths |= _draw(outcome.data, directory)
    return {name: str(path) for name, path in paths.items()}


def _record(data: ReportData, directory: Path) -> None:
    """Write run.json, and before it the answers, whose digest it holds."""
    path = directory / names.ANSWERS
    if data.measurements is None:
        path.unlink(missing_ok=True)
    else:
        temporary = disk.temporary(path)
        measured = answers.write(data.measurements, temporary)
        disk.sync(temporary)
        temporary.replace(path)
        data = data.model_copy(update={"measurements": measured})
    text = data.model_dump_json(by_alias=True, exclude={"measurements": answers.APART})
    _replace(directory / names.RECORD, text)


def draw(data: ReportData, directory: Path) -> dict[str, Path]:
    """Write report.html, summary.md and, if budgets were judged, verdict.json.

    Raises EvidenceError if the folder's bundle is not of this run, RecipeError if a file of that
    name is not rarefy's.
    """
    with _holding(directory):
        check_ours(directory)
        check_bundle(data, directory)
        _drop_verdict(directory)
        return _draw(data, directory)


def _draw(data: ReportData, directory: Path) -> dict[str, Path]:
    from rarefy.pipeline.report import disagreements, html, markdown

    paths = {"report": directory / names.REPORT, "summary": directory / names.SUMMARY}
    _replace(paths["report"], html.render(data))
    _replace(paths["summary"], markdown.render(data))
    rows = disagreements.render(data)
    if rows is None:
        disk.remove(directory / names.DISAGREEMENTS)
    else:
        paths["disagreements"] = directory / names.DISAGREEMENTS
        _replace(paths["disagreements"], rows)
    if data.verdict is not None:
        paths["verdict"] = directory / names.VERDICT
        _replace(paths["verdict"], data.verdict.model_dump_json(by_alias=True, indent=1) + "\n")
    return paths


def draw_ci(data: ReportData, directory: Path, strict: bool) -> dict[str, str]:
    """Write the files that CI systems read; return their paths."""
    from rarefy.pipeline.report.ci import junit

    texts = {
        "junit": junit.render(data, strict),
    }
    with _holding(directory):
        for name, text in texts.items():
            _replace(directory / names.CI_FILES[name], text)
    return {name: str(directory / names.CI_FILES[name]) for name in texts}


def draw_broken(name: str, reason: str, directory: Path) -> None:
    """Write junit.xml and summary.md of a run that reached no verdict, and nothing else.

    Files of an earlier run in ``directory`` are removed; otherwise its verdict would be mistaken
    for this run's. Raises RecipeError if a file of that name is not rarefy's.
    """
    from rarefy.pipeline.report.ci import junit
    from rarefy.pipeline.terms.wording import escape

    with _holding(directory):
        check_ours(directory)
        for file in names.FILES:
            (directory / file).unlink(missing_ok=True)
        _drop_bundle(directory)
        _replace(directory / names.JUNIT, junit.broken(name, reason))
        _replace(
            directory / names.SUMMARY,
            f"## ✗ No verdict: {escape(name)}\n\n{escape(reason)}\n",
        )


def read(directory: Path) -> ReportData:
    """Read the data of a run that ``write`` saved in ``directory``.

    Raises OSError if run.json cannot be read, ValueError if its content is not valid, such as that
    of another version: then in one line.
    """
    record = json_text.parse((directory / names.RECORD).read_bytes())
    try:
        data = ReportData.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        advice = "; run the recipe again with this version" if place.endswith("schema") else ""
        raise ValueError(f"{place}: {first['msg']}{advice}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if data.measurements is None:
        return data
    measured = answers.read(data.measurements, directory / names.ANSWERS)
    return data.model_copy(update={"measurements": measured})


def last_measurements(directory: Path) -> Measurements | None:
    """Return what a run measured; None if there is nothing that this version can read."""
    try:
        return read(directory).measurements
    except (OSError, ValueError):
        return None


def check_bundle(data: ReportData, directory: Path) -> None:
    """Raise EvidenceError if the bundle in a run's folder is not of that run.

    That is so if a later run was stopped after it had replaced the bundle.
    """
    manifest = directory / names.BUNDLE / MANIFEST
    if not manifest.is_file():
        return
    digest = file_sha256(manifest)  # the manifest is canonical JSON, so this is its digest
    if data.lineage and digest not in {node.digest for node in data.lineage}:
        raise EvidenceError(
            f"{directory}: its verdict is not on bundle {digest[:12]}, which is next to it: a run "
            "was stopped while it wrote this folder; run it again"
        )


def _copy(bundle: Artifact, target: Path) -> Path:
    """Copy a bundle out of the store to a temporary folder beside ``target``, on the disk."""
    fresh = disk.temporary(target)
    # The store's files are read-only; a copy for users is not.
    shutil.copytree(bundle.directory, fresh, copy_function=shutil.copyfile)
    disk.sync_tree(fresh)
    return fresh


def _swap(fresh: Path, target: Path) -> None:
    """Replace a bundle by its complete copy."""
    if target.exists():
        old = disk.temporary(target)
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)
    disk.sync(target.parent)


@contextmanager
def _holding(directory: Path) -> Iterator[None]:
    """Lock a run's folder against other writers; create the folder if it does not exist.

    Temporary files that a killed process left behind are removed. Raises RecipeError if there can
    be no such folder.
    """
    with disk.placing(directory / names.REPORT):
        pass
    with disk.speaking(directory), disk.held(directory):
        for path in directory.iterdir():
            if _UNFINISHED.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield


def _drop_verdict(directory: Path) -> None:
    """Remove the verdict of an earlier run, so that it never lies beside another bundle."""
    disk.remove(directory / names.VERDICT)


def _drop_bundle(directory: Path) -> None:
    """Remove the bundle of an earlier run; leave a folder that is not a bundle.

    A part of one, which a kill could leave, would be taken for such a folder.
    """
    if (directory / names.BUNDLE / MANIFEST).is_file():
        old = disk.temporary(directory / names.BUNDLE)
        (directory / names.BUNDLE).rename(old)
        shutil.rmtree(old)


def _replace(path: Path, text: str) -> None:
    """Replace a file in one step, on the disk; credentials in URLs are left out."""
    disk.write_text(path, redact(text))


def check_ours(directory: Path) -> None:
    """Raise RecipeError if a file or folder that a run would replace was not written by rarefy."""
    for name, mark in _MARKS.items():
        path = directory / name
        if path.exists() and not _has(path, mark):
            raise _foreign(path)
    folder = directory / names.BUNDLE
    ours = folder.is_dir() and not folder.is_symlink()
    if ours and any(folder.iterdir()):
        ours = _has(folder / MANIFEST, _MANIFEST)
    if os.path.lexists(folder) and not ours:
        raise _foreign(folder)


def check_page(page: Path) -> None:
    """Raise RecipeError if a page would replace a file that rarefy did not write."""
    if page.is_file() and page.stat().st_size and not _has(page, _MARKS[names.REPORT]):
        raise RecipeError(
            f"{page}: rarefy did not write this and would replace it; choose another name"
        )


def write_page(page: Path, text: str) -> None:
    """Write a page; raises as ``check_page`` does, and ProviderError if it cannot be written."""
    check_page(page)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(redact(text), encoding="utf-8")
    except OSError as error:
        raise ProviderError(f"{page}: cannot write it: {error.strerror}") from None


def _has(path: Path, mark: bytes) -> bool:
    return path.is_file() and re.search(mark, path.read_bytes()) is not None


def _foreign(path: Path) -> RecipeError:
    return RecipeError(
        f"{path}: rarefy did not make this and would replace it; move it away, or choose another "
        "folder with --out"
    )
