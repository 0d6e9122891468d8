"""The layout of the state folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.store.home import Home


def test_store_runs_and_prefect_lie_apart_in_the_folder(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    places = {home.runs, home.prefect, home.store().root}
    assert len(places) == 3
    assert {place.parent for place in places} == {tmp_path / "state"}
