"""Write a run's folder: report, summary, verdict, bundle and CI files, each replaced atomically."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.store import disk
from pipeline.store.artifact import Artifact
from pipeline.verdict.record import ReportData

if TYPE_CHECKING:  # judging loads numpy, and `rarefy plan` only reads a folder
    from pipeline.run.outcome import Outcome

CI_FILES = {
    "junit": "junit.xml",
    "metrics": "metrics.txt",
    "bencher": "bmf.json",
    "benchmark_smaller": "benchmark-smaller.json",
    "benchmark_bigger": "benchmark-bigger.json",
}
"""The files that ``draw_ci`` writes, by their keys in its result."""
WRITTEN = ("report.html", "summary.md", "verdict.json", "run.json", *CI_FILES.values())
BUNDLE = "bundle"
_UNFINISHED = re.compile(rf"\.({'|'.join(map(re.escape, (*WRITTEN, BUNDLE)))})-[0-9a-f]{{32}}")
"""Temporary names: a file or folder that is being written or removed, beside its final name."""


def write(outcome: Outcome, directory: Path) -> dict[str, str]:
    """Write report.html, summary.md, verdict.json and a copy of the bundle; return their paths.

    Each file is replaced in one step, so a reader never sees half of one. Files of an earlier run
    that this one did not make are removed. Raises ProviderError if the disk is full.
    """
    with _holding(directory):
        paths = _draw(outcome.data, directory)
        if outcome.bundle is not None:
            paths["bundle"] = directory / BUNDLE
            copy_bundle(outcome.bundle, paths["bundle"])
        else:
            _drop_bundle(directory)
        _replace(directory / "run.json", outcome.data.model_dump_json(by_alias=True))
    return {name: str(path) for name, path in paths.items()}


def draw(data: ReportData, directory: Path) -> dict[str, Path]:
    """Write report.html, summary.md and, if budgets were judged, verdict.json."""
    with _holding(directory):
        return _draw(data, directory)


def _draw(data: ReportData, directory: Path) -> dict[str, Path]:
    from pipeline.report import html, markdown

    (directory / "verdict.json").unlink(missing_ok=True)  # it may belong to an earlier run
    paths = {"report": directory / "report.html", "summary": directory / "summary.md"}
    _replace(paths["report"], html.render(data))
    _replace(paths["summary"], markdown.render(data))
    if data.verdict is not None:
        paths["verdict"] = directory / "verdict.json"
        _replace(paths["verdict"], data.verdict.model_dump_json(by_alias=True, indent=1) + "\n")
    return paths


def draw_ci(data: ReportData, directory: Path, strict: bool) -> dict[str, str]:
    """Write the files that CI systems and benchmark trackers read; return their paths."""
    from pipeline.report.ci import bencher, benchmark_action, junit, openmetrics
    from pipeline.report.ci.numbers import measured

    numbers = measured(data)
    texts = {
        "junit": junit.render(data, strict),
        "metrics": openmetrics.render(data, numbers),
        "bencher": bencher.render(data, numbers),
        "benchmark_smaller": benchmark_action.render(data, numbers, bigger=False),
        "benchmark_bigger": benchmark_action.render(data, numbers, bigger=True),
    }
    with _holding(directory):
        for name, text in texts.items():
            _replace(directory / CI_FILES[name], text)
    return {name: str(directory / CI_FILES[name]) for name in texts}


def draw_broken(name: str, reason: str, directory: Path) -> None:
    """Write junit.xml and summary.md of a run that reached no verdict, and nothing else.

    Files of an earlier run in ``directory`` are removed; otherwise its verdict would be mistaken
    for this run's.
    """
    from pipeline.report import markdown
    from pipeline.report.ci import junit

    with _holding(directory):
        for file in WRITTEN:
            (directory / file).unlink(missing_ok=True)
        _drop_bundle(directory)
        _replace(directory / CI_FILES["junit"], junit.broken(name, reason))
        _replace(
            directory / "summary.md",
            f"## ✗ No verdict: {markdown.escape(name)}\n\n{markdown.escape(reason)}\n",
        )


def read(directory: Path) -> ReportData:
    """Read the data of a run that ``write`` saved in ``directory``.

    Raises OSError if run.json cannot be read, ValueError if its content is not valid.
    """
    return ReportData.model_validate(json.loads((directory / "run.json").read_text()))


def copy_bundle(bundle: Artifact, target: Path) -> None:
    """Copy a bundle out of the store; replace an older copy once the new one is complete."""
    fresh = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    # The store's files are read-only; a copy for users is not.
    shutil.copytree(bundle.directory, fresh, copy_function=shutil.copyfile)
    disk.sync_tree(fresh)
    if target.exists():
        old = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)


@contextmanager
def _holding(directory: Path) -> Iterator[None]:
    """Lock a run's folder against other writers; create the folder if it does not exist.

    Temporary files that a killed process left behind are removed.
    """
    with disk.speaking(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with disk.held(directory):
            for path in directory.iterdir():
                if _UNFINISHED.fullmatch(path.name):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield


def _drop_bundle(directory: Path) -> None:
    """Remove the bundle of an earlier run; leave a folder that is not a bundle."""
    if (directory / BUNDLE / "manifest.json").is_file():
        shutil.rmtree(directory / BUNDLE)


def _replace(path: Path, text: str) -> None:
    disk.write_text(path, text)
