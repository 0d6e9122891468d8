"""Texts on disk: they read as a list does, without its memory."""

from __future__ import annotations

import errno
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rarefy.pipeline.data.split import Texts
from rarefy.pipeline.terms.errors import ProviderError

WRITTEN = ["one", "", "zwölf Bücher", "two\nlines", "文", "last"]


@pytest.fixture
def texts(tmp_path) -> Texts:
    made = Texts(tmp_path)
    for text in WRITTEN:
        made.append(text)
    return made


def test_they_read_as_they_were_written(texts):
    assert list(texts) == WRITTEN
    assert [texts[row] for row in (4, 0, -1, 2)] == ["文", "one", "last", "zwölf Bücher"]
    assert (texts[1:3], texts[::-2]) == (WRITTEN[1:3], WRITTEN[::-2])
    assert len(texts) == len(WRITTEN)
    with pytest.raises(IndexError):
        texts[6]


def test_a_text_can_be_added_after_reading(texts):
    assert texts[0] == "one"
    texts.append("more")
    assert list(texts) == [*WRITTEN, "more"]


def test_no_file_is_left_behind(texts, tmp_path):
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_texts(tmp_path):
    tracemalloc.start()
    try:
        made = Texts(tmp_path)
        for row in range(5000):
            made.append(f"{row} " * 200)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000
    assert made[4999] == "4999 " * 200


def test_threads_read_what_they_ask_for():
    texts = Texts()
    for number in range(3000):
        texts.append(f"{number} " * (number % 7 + 1))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda at: texts[at], [*range(3000)] * 4))
    assert all(text.split()[0] == str(at % 3000) for at, text in enumerate(found))


@pytest.mark.parametrize("size", [1, 100_000], ids=["when it is read", "when it is added"])
def test_a_full_disk_is_said(tmp_path, monkeypatch, size):
    full = Path("/dev/full").open("w+b")  # noqa: SIM115 (closed with the texts)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)

    def write_and_read():
        texts = Texts(tmp_path)
        texts.append("x" * size)
        return texts[0]

    with pytest.raises(ProviderError, match=f"^{tmp_path}: the disk is full"):
        write_and_read()


def test_a_folder_where_nothing_can_be_written_is_said(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "tmp1"))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ProviderError, match="tmp1: cannot write here: Read-only file system"):
        Texts(tmp_path)
