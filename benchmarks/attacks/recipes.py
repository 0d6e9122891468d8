"""Recipes that are no recipes, or name what is no file."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.attacks import ANY, Attack, Change, nothing

COUNT = 140
"""Of the pairs of a key and a value, drawn at random."""
BASE: dict[str, Any] = {
    "name": "tiny",
    "model": "model",
    "task": "text-classification",
    "seed": 1,
    "data": {
        "train": "train.jsonl",
        "eval": "eval.jsonl",
        "text": "text",
        "label": "label",
        "max_length": 32,
    },
    "stages": [{"finetune": {"epochs": 1, "batch_size": 8}}, "export", "validate"],
    "budgets": [{"metric": "accuracy", "max_drop": "2 points", "against": "finetune"}],
}
VALUES: dict[str, str] = {
    "null": "~",
    "a list": "[]",
    "a mapping": "{}",
    "a list of null": "[~]",
    "a bad time": "!!timestamp x",
    "a bad binary": "!!binary x",
    "a bad integer": "!!int x",
    "a bad float": "!!float x",
    "a bad truth": "!!bool x",
    "a bad set": "!!set [1]",
    "a bad omap": "!!omap x",
    "bad pairs": "!!pairs [x]",
    "a tag on a list": "!!int [1]",
    "a text as mapping": "!!map x",
    "a mapping as text": "!!str {a: 1}",
    "a call": "!!python/object/apply:os.system [id]",
    "an unknown tag": "!unknown x",
    "an unknown alias": "*nowhere",
    "an alias of itself": "&a [*a]",
    "a merge of itself": "&b {<<: *b}",
    "infinite": "1e999",
    "not a number": "!!float .nan",
    "500 digits": "9" * 500,
    "5,000 digits": "9" * 5000,
    "negative": "-1",
    "a zero byte": '"a\\0b"',
    "a terminal's control": '"\\e[31m\\e]0;owned\\a"',
    "5,000 letters": "x" * 5000,
    "half a surrogate": '"\\ud800"',
    "nobody's home": "~nobody-at-all/x",
    "a home": "~/x",
    "many folders up": "../" * 300 + "x",
    "deep": "[" * 45 + "]" * 45,
    "deeper": "[" * 500 + "]" * 500,
    "a date": "2024-99-99",
    "endless": "/dev/zero",
    "the terminal": "/dev/stdin",
    "a pipe": "pipe",
    "a folder": "model",
    "a link to itself": "loop",
    "a package outside": "package:../x",
    "a package of one dot": "package:.",
    "a revision outside": "hub:a/b@../../x",
    "a question": "? [a]",
}


def attacks(template: Path) -> Iterator[Attack]:
    """Yield the attacks; ``template``: the project that they will change copies of."""
    pairs = [(place, name) for place in _places(BASE) for name in VALUES]
    random.Random(0).shuffle(pairs)
    for number, (place, name) in enumerate(pairs[:COUNT]):
        command = (("recipe", "check"), ("plan",))[number % 2]
        change = _recipe(_changed(place, VALUES[name]).encode())
        at = ".".join(map(str, place))
        yield Attack(f"{at} is {name}", change, (*command, "tiny.yaml"), ANY)
    for name, content in FILES.items():
        for command in (("plan",), ("run",)):
            arguments = (*command, "tiny.yaml")
            yield Attack(f"{name}: {command[0]}", _recipe(content), arguments, (2,))
    paths = ("/dev/zero", "/dev/null", "model", "pipe", "loop", "x" * 300, "x/" * 3000, "a\x1b[31m")
    for path in paths:
        for command in ("plan", "run", "validate"):
            words = (command, path)
            if command == "validate":
                words = (command, "tiny", "--recipe", path)
            yield Attack(f"a recipe {path[:20]!r}: {command}", _odd_files, words, (2,))
    locked = Attack(
        "locked", lambda project: (project / "tiny.yaml").chmod(0), ("plan", "tiny.yaml")
    )
    yield Attack(locked.name, locked.change, locked.command, (2, 5), as_nobody=True)
    for words in LINES:
        yield Attack(f"line {' '.join(words)[:40]!r}", nothing, words, (2, 5))
    for words in LISTS:
        yield Attack(f"line {' '.join(words)[:40]!r}", nothing, words, (0, 2))


FILES: dict[str, bytes] = {
    "nothing": b"",
    "zeros": b"\0" * 1000,
    "no UTF-8": b"name: \xff\xfe",
    "UTF-16": "name: tiny".encode("utf-16"),
    "only a text": b"x",
    "only a list": b"[1, 2]",
    "two documents": b"a: 1\n---\nb: 2\n",
    "2 MB": b"a: " + b"x" * 2_000_000,
    "laughs": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (at, at, b",".join([b"*%c" % (at - 1)] * 9)) for at in range(98, 112)
    ),
    "brackets": b"[" * 100_000,
    "questions": b"? " * 20_000,
    "dashes": b"- " * 20_000,
    "a tab": b"a:\n\t- b",
    "a list as key": b"[a]: 1",
    "keys twice": b"name: a\nname: b\n",
    "a deep key": b"{" * 2000 + b"a" + b"}" * 2000,
    "a huge line of anchors": b" ".join(b"&a%d" % at for at in range(5000)),
    "a control character": b"name: a\x07b\n",
    "directives": b"%YAML 9.9\n---\nname: x\n",
    "tags": b"%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system [id]\n",
}
LISTS = (("artifact", "ls", "--kind", "\x1b[31m"), ("history", "x" * 5000))
"""What is not there is an empty list."""
LINES = (
    ("plan", "\udcff"),
    ("predict", "tiny", "--data", "x" * 5000),
    ("predict", "x" * 5000, "a"),
    ("report", "x" * 5000),
    ("report", "../../../../etc"),
    ("artifact", "verify", "x" * 5000),
    ("artifact", "pull", "file:///" + "x" * 5000 + "#production"),
    ("artifact", "pull", "nowhere://x#production"),
    ("artifact", "pull", "file://\0#production"),
    ("artifact", "push", "production", "file:///dev/null/x"),
    ("history", "--html", "/dev/null/x"),
    ("runs", "log", "x" * 5000),
    ("init", "x" * 5000, "--model", "model", "--train", "train.jsonl", "--yes"),
    ("init", "new.yaml", "--model", "~nobody-at-all", "--train", "train.jsonl", "--yes"),
    ("init", "new.yaml", "--model", "model", "--train", "~nobody-at-all/x.jsonl", "--yes"),
    ("init", "new.yaml", "--model", "x" * 300, "--train", "train.jsonl", "--yes"),
    ("init", "new.yaml", "--model", "model", "--train", "x" * 300, "--yes"),
    ("plan", "tiny.yaml", "--home", "/dev/null/x"),
    ("plan", "tiny.yaml", "--home", "x" * 300),
    ("plan", "tiny.yaml", "--home", "~nobody-at-all"),
    ("compare", "tiny", "x" * 5000),
    ("compare", "tiny", "production", "--data", "/dev/zero"),
    ("predict", "tiny", "--data", "/dev/zero"),
    ("predict", "tiny", "--data", "loop.jsonl"),
    ("bundle", "nowhere", "x" * 5000, "--for", "hub"),
)


def _places(value: Any, around: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        yield (*around, key)
        yield from _places(inner, (*around, key))


def _changed(place: tuple[str | int, ...], value: str) -> str:
    """Return the recipe with a text, as it stands in YAML, in one place."""
    changed = yaml.safe_load(yaml.safe_dump(BASE))
    around = changed
    for key in place[:-1]:
        around = around[key]
    around[place[-1]] = "HERE"
    return yaml.safe_dump(changed, sort_keys=False, width=10_000).replace("HERE", value)


def _recipe(content: bytes) -> Change:
    def change(project: Path) -> None:
        _odd_files(project)
        (project / "tiny.yaml").write_bytes(content)

    return change


def _odd_files(project: Path) -> None:
    """Make a pipe that nobody writes to, and a link to itself."""
    os.mkfifo(project / "pipe")
    (project / "loop").symlink_to("loop")
