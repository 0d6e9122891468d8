"""A run's folder may be any folder: files of other programs are neither replaced nor lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.pipeline.run import folder as files
from rarefy.pipeline.run.outcome import Outcome
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import RecipeError
from tests.pipeline.report.factory import report_data
from tests.pipeline.store.artifacts import publish

PREVIOUS = Path(__file__).parents[2] / "previous" / "home" / "runs" / "tiny"
FOREIGN = {
    "report.html": "<html><p>rarefy</p></html>",
    "summary.md": "## Summary of my thesis\n",
    "verdict.json": '{"guilty": true}',
    "run.json": '{"schema": "mine/1", "command": "make"}',
    "answers.safetensors": "{}",
    "disagreements.csv": "kind,text\n",
    "junit.xml": '<testsuites name="pytest"></testsuites>',
}


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", [*FOREIGN, "bundle"])
def test_a_file_of_another_program_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "out" / name
    if name == "bundle":
        theirs = theirs / "app.js"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(FOREIGN.get(name, "mine"))
    before = content(tmp_path / "out")
    bundle = publish(Store(tmp_path / "store"))
    for write in (
        lambda: files.write(Outcome(report_data(), bundle), tmp_path / "out"),
        lambda: files.draw(report_data(), tmp_path / "out"),
        lambda: files.draw_broken("demo", "a reason", tmp_path / "out"),
    ):
        with pytest.raises(RecipeError, match=f"{name}: rarefy did not make this") as said:
            write()
        assert "\n" not in str(said.value)
        assert content(tmp_path / "out") == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_called_bundle_and_is_no_folder_is_refused_and_stays(
    tmp_path: Path, kind: str
) -> None:
    theirs, elsewhere = tmp_path / "out" / "bundle", tmp_path / "elsewhere"
    theirs.parent.mkdir()
    elsewhere.mkdir()
    if kind == "file":
        theirs.write_text("mine")
    else:
        theirs.symlink_to(elsewhere)
    with pytest.raises(RecipeError, match="bundle: rarefy did not make this"):
        files.write(Outcome(report_data(), publish(Store(tmp_path / "store"))), theirs.parent)
    assert [path.name for path in theirs.parent.iterdir()] == ["bundle"]
    assert theirs.is_symlink() or theirs.read_text() == "mine"


def test_what_a_run_wrote_is_replaced_by_the_next(tmp_path: Path) -> None:
    bundle = publish(Store(tmp_path / "store"))
    for data in (report_data(), report_data(verdict=None, measurements=None)):
        files.write(Outcome(data, bundle), tmp_path / "out")
        files.draw_ci(data, tmp_path / "out", strict=True)
        files.check_ours(tmp_path / "out")
    files.draw_broken("demo", "a reason", tmp_path / "out")
    assert set(content(tmp_path / "out")) == {"junit.xml", "summary.md"}
    files.write(Outcome(report_data(), bundle), tmp_path / "out")


def test_a_folder_of_an_earlier_version_is_ours() -> None:
    files.check_ours(PREVIOUS)
