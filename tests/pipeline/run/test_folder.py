"""A run's folder: complete, from that run alone, and safe from concurrent writers."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.run import folder as files
from rarefy.pipeline.run.outcome import Outcome
from rarefy.pipeline.store.artifact import Artifact
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import EvidenceError, ProviderError, RecipeError
from rarefy.pipeline.verdict.record import ReportData
from tests.pipeline.report.factory import report_data
from tests.pipeline.store.artifacts import publish

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def bundle(tmp_path: Path) -> Artifact:
    return publish(Store(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "demo"


def whole(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} == {
        *("report.html", "summary.md", "verdict.json", "answers.safetensors", "run.json", "bundle"),
        "disagreements.csv",
    } and (folder / "bundle" / "sub" / "b.bin").is_file()


def test_what_this_run_did_not_make_is_not_left_of_another(bundle: Artifact, folder: Path) -> None:
    files.write(Outcome(report_data(), bundle), folder)
    assert whole(folder)
    files.draw_ci(report_data(), folder, strict=True)
    assert (folder / "junit.xml").is_file()
    files.write(Outcome(report_data(verdict=None, measurements=None), None), folder)
    assert {path.name for path in folder.iterdir()} == {"report.html", "summary.md", "run.json"}


@pytest.mark.parametrize("schema", ["rarefy.verdict/2", "rarefy.verdict/4"])
def test_a_record_of_another_version_is_refused_in_one_line_that_names_it(
    tmp_path: Path, schema: str
) -> None:
    record = json.loads(report_data(measurements=None).model_dump_json(by_alias=True))
    record["verdict"]["schema"] = schema
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match=r"^verdict\.schema: .*'rarefy.verdict/3'; run [^\n]*$"):
        files.read(tmp_path)


@pytest.mark.parametrize("below", ["", "deeper", "deeper/still"])
def test_a_folder_that_cannot_be_made_is_known_before_anything_is_written(
    tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RecipeError, match=r"cannot be written: .*; choose another place"):
        files.prepare(tmp_path / "file" / below)
    with pytest.raises(RecipeError, match=r"cannot be written: .*; choose another place"):
        files.draw_broken("tiny", "stopped", tmp_path / "file" / below)


def test_a_folder_that_is_prepared_is_empty(folder: Path) -> None:
    files.prepare(folder)
    assert list(folder.iterdir()) == []
    (folder / "report.html").write_text("mine")
    with pytest.raises(RecipeError, match="rarefy did not make this"):
        files.prepare(folder)


def test_a_page_replaces_one_of_ours_and_nobody_else_s(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    files.write_page(page, '<meta name="generator" content="rarefy">')
    files.write_page(page, "<p>mine</p>")
    with pytest.raises(RecipeError, match="rarefy did not write this"):
        files.write_page(page, "another")
    assert page.read_text() == "<p>mine</p>"


def test_a_folder_that_is_no_bundle_stays(folder: Path) -> None:
    (folder / "bundle").mkdir(parents=True)
    files.write(Outcome(report_data(), None), folder)
    assert (folder / "bundle").is_dir()


def test_a_stop_while_a_bundle_is_removed_is_no_folder_of_somebody_else(
    bundle: Artifact, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(Outcome(report_data(), bundle), folder)

    def stopped(path: Path) -> None:
        (path / "manifest.json").unlink()
        raise KeyboardInterrupt

    without = Outcome(report_data(verdict=None, measurements=None), None)
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            files.write(without, folder)
    files.write(without, folder)
    assert {path.name for path in folder.iterdir()} == {"report.html", "summary.md", "run.json"}


@pytest.mark.slow
def test_processes_that_write_at_once_take_turns(bundle: Artifact, folder: Path) -> None:
    def write() -> None:
        for _ in range(3):
            files.write(Outcome(report_data(), bundle), folder)

    others = [FORK.Process(target=write) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(120)
    assert [other.exitcode for other in others] == [0] * 3
    assert whole(folder)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["copytree", "rmtree"])
def test_a_kill_while_it_writes_costs_nothing(
    bundle: Artifact, folder: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(Outcome(report_data(), bundle), folder)
    work = getattr(shutil, moment)

    def killed(*arguments: Path, **named: Any) -> None:
        if moment == "copytree":
            work(*arguments, ignore=lambda *_: ["sub"], **named)
        os.kill(os.getpid(), signal.SIGKILL)

    def write() -> None:
        monkeypatch.setattr(files.shutil, moment, killed)
        files.write(Outcome(report_data(), bundle), folder)

    other = FORK.Process(target=write)
    other.start()
    other.join(60)
    assert other.exitcode == -signal.SIGKILL
    assert (folder / "bundle" / "sub" / "b.bin").is_file()
    assert not whole(folder), "something unfinished lies there"
    mine = folder / f".mine-{'0' * 32}"
    mine.mkdir()
    files.write(Outcome(report_data(), bundle), folder)
    mine.rmdir()  # files of others are kept
    assert whole(folder)


@pytest.mark.slow
def record_of(bundle: Artifact) -> ReportData:
    """The record of a run that measured this bundle."""
    data = report_data()
    assert data.verdict is not None
    judged = data.verdict.model_copy(update={"bundle": bundle.digest})
    made = data.lineage[-1].model_copy(update={"digest": bundle.digest})
    return data.model_copy(update={"verdict": judged, "lineage": [made]})


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_no_verdict_beside_another_bundle(
    bundle: Artifact, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the writer at each write to the disk in turn, until one run gets through."""
    mark = '<meta name="generator" content="rarefy">'
    monkeypatch.setattr(
        "rarefy.pipeline.report.html.render", lambda _data: mark
    )  # it takes a second
    bundles = [bundle, publish(Store(tmp_path / "store"), "another", "0" * 64)]
    files.write(Outcome(record_of(bundle), bundle), folder)
    sync, step, seen = os.fsync, 0, set()

    def write(new: Artifact, last: int) -> None:
        count = 0

        def counted(descriptor: int) -> None:
            nonlocal count
            count += 1
            if count > last:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", counted)
        files.write(Outcome(record_of(new), new), folder)

    while True:
        step += 1
        writer = FORK.Process(target=write, args=(bundles[step % 2], step))
        writer.start()
        writer.join(60)
        digest = file_sha256(folder / "bundle" / "manifest.json")
        verdict = folder / "verdict.json"
        if verdict.exists():
            assert json.loads(verdict.read_text())["bundle"] == digest
        record = files.read(folder)
        if record.lineage[0].digest != digest:
            assert not verdict.exists()
            with pytest.raises(EvidenceError, match="a run was stopped while it wrote this folder"):
                files.check_bundle(record, folder)
            seen.add("mixed")
        assert writer.exitcode in (0, -signal.SIGKILL)
        if writer.exitcode == 0:
            break
        seen.add("killed")
    assert seen == {"mixed", "killed"}
    assert whole(folder)


def test_a_full_disk_is_said_in_one_line(
    bundle: Artifact, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files.write(Outcome(report_data(), bundle), folder)
    monkeypatch.setattr(files.shutil, "copytree", full)
    with pytest.raises(ProviderError, match="the disk is full; free some space"):
        files.write(Outcome(report_data(), bundle), folder)
    assert whole(folder)
