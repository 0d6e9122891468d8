"""Tests mirror the folders of the source, so that whoever changes a room finds its tests."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "stages", "exporters", "flows")


def test_every_folder_of_tests_is_that_of_a_source_folder() -> None:
    inner = [path for folder in FOLDERS for path in (ROOT / "tests" / folder).rglob("test_*.py")]
    folders = {path.parent.relative_to(ROOT / "tests") for path in inner}
    assert len(folders) > 20
    assert sorted(str(folder) for folder in folders if not (ROOT / folder).is_dir()) == []


def test_every_room_has_tests() -> None:
    rooms = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    with_behaviour = [room for room in rooms if len(list(room.glob("*.py"))) > 1]
    missing = [
        str(room.relative_to(ROOT))
        for room in with_behaviour
        if not list((ROOT / "tests" / room.relative_to(ROOT)).rglob("test_*.py"))
    ]
    assert len(with_behaviour) > 20
    assert sorted(missing) == []
