"""A folder appears whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.exporters.forms import folder
from rarefy.pipeline.terms.errors import ProviderError, RecipeError


def test_the_folder_appears_at_the_end_with_what_was_written(tmp_path):
    out = tmp_path / "new" / "out"
    with folder.whole(out) as fresh:
        (fresh / "a.txt").write_text("a")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["a.txt"]
    assert list(out.parent.iterdir()) == [out]


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "out").mkdir()
    with folder.whole(tmp_path / "out") as fresh:
        (fresh / "a.txt").write_text("a")
    assert (tmp_path / "out/a.txt").read_text() == "a"


def attempt(out, error):
    with folder.whole(out) as fresh:
        (fresh / "a.txt").write_text("a")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_an_attempt_that_failed(tmp_path, error):
    with pytest.raises(error):
        attempt(tmp_path / "out", error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_and_stays(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RecipeError, match="not empty"), folder.whole(tmp_path):
        raise AssertionError("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_and_a_link_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(RecipeError, match="not a folder"):
            folder.check_new(tmp_path / name)


def test_the_folder_that_this_process_is_in_cannot_be_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="name a new one inside it"):
        folder.check_new(Path())


def test_a_mounted_folder_cannot_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path)
    with pytest.raises(RecipeError, match="name a new one inside it"):
        folder.check_new(tmp_path)


def test_a_full_disk_is_an_error_of_one_line(tmp_path):
    with pytest.raises(ProviderError, match="the disk is full"), folder.whole(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
