"""The layout of the state folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.pipeline.store.home import Home


def test_store_runs_and_prefect_lie_apart_in_the_folder(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    places = {home.runs, home.prefect, home.store().root}
    assert len(places) == 3
    assert {place.parent for place in places} == {tmp_path / "state"}


def test_a_new_folder_is_kept_out_of_git(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "state")
    home.store()
    assert (home.path / ".gitignore").read_text() == "*\n"
    theirs = Home(tmp_path / "deep")
    theirs.store()
    assert not (theirs.path / ".gitignore").exists(), "a folder that was there is the user's"


@pytest.mark.parametrize("path", ["./tiny", "tiny/", "out/tiny", "/out/tiny", "."])
def test_a_bare_name_is_first_a_run_and_a_path_never_is(tmp_path: Path, path: str) -> None:
    home = Home(tmp_path)
    assert home.folders("tiny") == [home.runs / "tiny", Path("tiny")]
    assert home.folders(path) == [Path(path)]


def test_a_home_that_is_not_given_is_the_environment_s_or_else_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAREFY_HOME", "~/theirs")
    assert Home.of("mine").path == Path("mine")
    assert Home.of(None).path == tmp_path / "theirs"
    monkeypatch.setenv("RAREFY_HOME", "")
    assert Home.of(None).path == Path(".rarefy")
    monkeypatch.delenv("RAREFY_HOME")
    assert Home.of(None).path == Path(".rarefy")
