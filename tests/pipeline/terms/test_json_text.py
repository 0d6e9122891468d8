"""JSON that is damaged, hostile or of another form ends in one line, and never in a crash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import DataError, IntegrityError, RarefyError

DEEP = 100_000
WRONG = {
    "empty": b"",
    "cut": b'{"name": "a"',
    "nested lists": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "no UTF-8": b'{"name": "\xff"}',
    "a list": b"[1]",
    "null": b"null",
    "no name": b"{}",
    "another type": b'{"name": [1]}',
    "a number without end": b'{"name": ' + b"9" * 10_000 + b"}",
}


class Named(BaseModel):
    name: str


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_our_own_files_are_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as raised:
        json_text.ours(path, Named, "make it again")
    message = str(raised.value)
    assert message.startswith(f"{path}: the file is damaged (")
    assert message.endswith("); make it again")
    assert "\n" not in message


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_files_of_others_are_wrong_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        json_text.foreign(path, Named, DataError)
    assert str(raised.value).startswith(f"{path}: not what it must be: ")
    assert "\n" not in str(raised.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(RarefyError, match="not a regular file"):
            json_text.foreign(path, Named)
        with pytest.raises(IntegrityError, match="not a regular file"):
            json_text.ours(path, Named)


def test_a_missing_file_of_ours_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        json_text.ours(tmp_path / "none", Named)


def test_right_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "a", "more": 1}')
    assert json_text.ours(path, Named).name == "a"
    assert json_text.foreign(path, dict[str, object]) == {"name": "a", "more": 1}


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "-" * 100_000 + "1", "1+" * 50_000 + "1", "[" * 1000, "9**9**9", "f()"]
)
def test_a_literal_that_would_crash_python_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"literal|brackets|malformed"):
        json_text.parse_literal(text)


def test_literals_are_read() -> None:
    assert json_text.parse_literal("['a-b', ('c', -1)]") == ["a-b", ("c", -1)]
