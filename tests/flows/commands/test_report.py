"""``rarefy report``: render the report again from the run's record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

import pytest

from tests.project import Project, Said


def test_report_is_drawn_again_from_the_run(here: Project, rarefy: Callable[..., Said]) -> None:
    path = here.home / "runs" / "tiny" / "report.html"
    path.unlink()
    said = rarefy("report")
    assert (said.code, said.out) == (0, f"{path}\n")
    assert path.is_file()
    assert rarefy("report", "tiny", "--format", "html").out.startswith("<!doctype html>")
    assert "tiny" in rarefy("report", "tiny", "--format", "markdown").out
    assert json.loads(rarefy("report", "tiny", "--format", "json").out)["name"] == "tiny"
    assert json.loads(rarefy("report", "tiny", "--json").out)["verdict"] == "pass"


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_what_is_no_json_is_refused_with_json(rarefy: Callable[..., Said], form: str) -> None:
    said = rarefy("report", "--format", form, "--json")
    assert said.code == json.loads(said.out)["exit_code"] == 2
    assert f"--format {form} and --json exclude each other" in said.err


def test_a_report_that_cannot_be_rendered_again_is_read_as_it_is(
    here: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = here.home / "runs" / "tiny"
    summary = run / "summary.md"
    before = summary.read_text()
    monkeypatch.setattr("os.access", lambda path, mode: not (path == run and mode == os.W_OK))
    summary.write_text("as it is")
    said = rarefy("report", "tiny", "--format", "markdown")
    summary.write_text(before)
    assert (said.code, said.out) == (0, "as it is")
    assert f"{run} cannot be written" in said.err
    assert rarefy("report", "tiny").out == f"{run / 'report.html'}\n"


def test_a_damaged_run_record_is_said(here: Project, rarefy: Callable[..., Said]) -> None:
    broken = here.home / "runs" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    said = rarefy("report", "broken")
    shutil.rmtree(broken)
    assert said.code == 2
    assert "not a run's record" in said.err
