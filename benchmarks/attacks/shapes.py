"""Wrong contents of a JSON file, as text and value by value."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.attacks import Change

DEEP = 100_000
TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "half an object": b'{"a": ',
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "a number": b"1",
    "no number": b"NaN",
    "an empty object": b"{}",
    "a list of lists": b"[" * DEEP + b"]" * DEEP,
    "an open list": b"[" * DEEP,
    "nested objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "zeros": b"\0" * 100,
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "a number of 10,000 digits": b'{"a": ' + b"9" * 10_000 + b"}",
    "half a surrogate": b'{"a": "\\ud800"}',
}
"""Contents that replace a file."""
VALUES: dict[str, Any] = {
    "null": None,
    "a list": [],
    "an object": {},
    "an empty text": "",
    "a text": "x",
    "a text with control characters": "\x1b]0;owned\x07\x1b[31mred\r\n::set-output name=a::b\0",
    "a path outside": "../../../etc/passwd",
    "a negative number": -1,
    "a huge number": 1e308,
    "a huge integer": 10**30,
    "true": True,
    "lists of lists": [[[[]]]],
    "a list of null": [None],
    "an object of null": {"0": None},
}
"""Values that replace one value."""


def texts(path: str) -> Iterator[tuple[str, Change]]:
    """Yield changes that replace the content of a file."""
    for name, content in TEXTS.items():
        yield f"{path} is {name}", writing(path, content)


def values(path: str, original: Path, count: int, seed: int = 0) -> Iterator[tuple[str, Change]]:
    """Yield changes of ``count`` values, drawn from all keys of a JSON file; some are deleted."""
    content = json.loads(original.read_text(encoding="utf-8"))
    draw = random.Random(f"{path} {seed}")
    places = [*_places(content)]
    chosen = [(place, name) for place in places for name in ("missing", *VALUES)]
    draw.shuffle(chosen)
    for place, name in chosen[:count]:
        other = _with(content, place, name)
        if other == content:
            continue
        changed = json.dumps(other).encode()
        at = ".".join(map(str, place))
        yield f"{path}: {at} is {name}", writing(path, changed)


def writing(path: str, content: bytes) -> Change:
    """Return the change that replaces a file, which may be a read-only one."""

    def change(project: Path) -> None:
        file = place(project, path)
        file.unlink(missing_ok=True)
        file.write_bytes(content)

    return change


def flip(path: str, at: int) -> Change:
    """Return the change of one bit of a file's byte."""

    def change(project: Path) -> None:
        content = bytearray((project / path).read_bytes())
        content[at] ^= 1
        writing(path, bytes(content))(project)

    return change


def to_pipe(path: str) -> Change:
    """Return the change that puts a pipe in a file's place."""

    def change(project: Path) -> None:
        (project / path).unlink()
        os.mkfifo(project / path)

    return change


def place(project: Path, path: str) -> Path:
    """Return the first file of a project that matches; the path itself if there is none."""
    return next(iter(sorted(project.glob(path))), project / path)


def _places(value: Any, around: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where a value has others in it, at most five in each list."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())[:40]
    elif isinstance(value, list):
        items = list(enumerate(value))[:5]
    for key, inner in items:
        yield (*around, key)
        yield from _places(inner, (*around, key))


def _with(content: Any, place: tuple[str | int, ...], name: str) -> Any:
    """Return the content with another value, or none, in one place."""
    changed = json.loads(json.dumps(content))
    around = changed
    for key in place[:-1]:
        around = around[key]
    if name == "missing":
        del around[place[-1]]
    else:
        around[place[-1]] = VALUES[name]
    return changed
