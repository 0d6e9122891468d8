"""``rarefy history``, and the entries that runs and validations add."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.verdict.history import FILE, History
from rarefy.pipeline.verdict.history_numbers import Plain
from tests.desk import Desk
from tests.pipeline.report.factory import digest
from tests.pipeline.report.verdicts import NEWER, asked, finished
from tests.project import Project, Said

STAGES = ("quickstages:Head", "quickstages:Judge")
PASSES = "budgets:\n  - {metric: accuracy, min: 50 %}\n"


@pytest.fixture
def project(trained_project: Project) -> Project:
    """Its model is trained already: what is judged here is what comes after."""
    return trained_project


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """A history in its own home, which the commands use."""
    monkeypatch.setenv("RAREFY_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return History(tmp_path / "home" / FILE)


def test_an_empty_history_is_a_plain_sentence(past: History, rarefy: Callable[..., Said]) -> None:
    for arguments in ((), ("demo",)):
        said = rarefy("history", *arguments)
        assert (said.code, said.err) == (0, "")
        assert "no verdict yet" in said.out
    assert json.loads(rarefy("history", "--json").out) == []
    page = past.path.parent / "trend.html"
    said = rarefy("history", "--html", page)
    assert said.code == 2
    assert "no verdict yet" in said.err
    assert not page.exists()


def test_candidates_are_counted_and_compared_with_the_best_release_and_the_anchor(
    desk: Desk,
) -> None:
    past = History(desk.home / FILE)
    for index, right in enumerate((90, 88)):
        run = finished(index, right=right)
        run.measurements.data = "a" * 64
        run.measurements.models["candidate"].digest = desk.digest if not index else digest("next")
        assert past.add(run)
    (newest, _), heading = _history(desk)
    assert (newest["candidate"], newest["vs_best_release"]) == (2, None)
    assert "vs" not in heading
    desk.store.tag("production", desk.digest, why="promote")
    desk.store.tag("anchor", desk.digest)
    (newest, oldest), heading = _history(desk)
    for title in ("vs_best_release", "vs_anchor"):
        assert newest[title] == pytest.approx(-0.02)
        assert oldest[title] == 0
    assert "vs best release" in heading
    assert "vs anchor" in heading


def _history(desk: Desk) -> tuple[list[dict[str, Any]], str]:
    """Return what `rarefy history` has in JSON, and the headings of its table."""
    table = desk.rarefy("history", "reviews").out
    return json.loads(desk.rarefy("history", "--json").out), table.splitlines()[0]


def test_an_arrow_stands_only_where_intervals_are_apart_on_one_machine(
    past: History, rarefy: Callable[..., Said]
) -> None:
    slow = [(1.0, {}), (1.0005, {}), (1.2, {}), (1.5, {"machine": NEWER})]
    for index, (milliseconds, changes) in enumerate(slow):
        past.add(finished(index, milliseconds=milliseconds, **changes))
    lines = rarefy("history", "reviews").out.splitlines()[1:]
    assert ["↑" in line for line in lines] == [False, True, False, False]
    assert "↑ 19.9%" in lines[1]
    assert digest("bundle 3")[:12] in lines[0]  # newest first
    (latest,) = rarefy("history", "--limit", "1").out.splitlines()[1:]
    assert "reviews" in latest


def test_the_main_score_has_a_column_whatever_it_is(
    past: History, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def numbers(_: object) -> list[Plain]:
        return [Plain("micro_f1", None, 0.7, 0.6, 0.8)]

    monkeypatch.setattr("rarefy.pipeline.verdict.history.plain_numbers", numbers)
    past.add(finished(0, milliseconds=1.0))
    assert "Micro F1" in rarefy("history", "reviews").out.splitlines()[0]


def test_what_is_not_there_is_said(past: History, rarefy: Callable[..., Said]) -> None:
    past.add(finished(0, budgets=[asked("ece", "max", 0.1, 0.05)]))
    unknown = rarefy("history", "revews")
    assert unknown.code == 2
    assert "revews: no recipe of this name has a verdict; known: reviews" in unknown.err
    metric = rarefy("history", "--metric", "latency_p99")
    assert metric.code == 2
    assert "known: accuracy, ece, size" in metric.err
    assert "Calibration error" in rarefy("history", "--metric", "ece").out
    assert rarefy("history", "--metric", "latency_p99", "--json").code == 2
    (plain,) = json.loads(rarefy("history", "--metric", "size", "--json").out)
    assert {number["metric"] for number in plain["numbers"]} == {"size"}
    page = rarefy("history", "--metric", "size", "--html", past.path.parent / "trend.html")
    assert page.code == 2
    assert "the page shows all metrics" in page.err


def test_the_page_is_written_where_it_was_asked_for(
    past: History, rarefy: Callable[..., Said]
) -> None:
    past.add(finished(0, name="one"))
    past.add(finished(1, name="two"))
    page = past.path.parent / "new folder" / "trend.html"
    assert rarefy("history", "--html", page).out.strip() == str(page)
    assert "Verdicts over time" in page.read_text()
    said = rarefy("history", "one", "--html", page, "--json")
    assert json.loads(said.out) == {"page": str(page)}
    assert "<h1>one</h1>" in page.read_text()


def test_a_file_of_somebody_else_is_not_replaced_by_the_page(
    past: History, rarefy: Callable[..., Said]
) -> None:
    past.add(finished(0))
    notes = past.path.parent / "notes.html"
    notes.write_text("my notes")
    said = rarefy("history", "--html", notes)
    assert (said.code, notes.read_text()) == (2, "my notes")
    assert f"{notes}: rarefy did not write this" in said.err


def test_a_promoted_release_is_marked(project: Project, rarefy: Callable[..., Said]) -> None:
    recipe = project.recipe(*STAGES, budgets=PASSES)
    rarefy("run", recipe, "--engine", "inline")
    from rarefy.pipeline.store.store import Store

    store = Store(project.home / "store")
    head = next(d for d in store.digests() if store.open(d).manifest.stage.name == "head")
    store.tag("production", head, why="promote")
    store.tag("by-hand", head)
    page = project.folder / "trend.html"
    rarefy("history", "--html", page)
    assert "promoted to production" in page.read_text()
    assert "by-hand" not in page.read_text()
