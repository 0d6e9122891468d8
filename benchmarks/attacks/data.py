"""Data files: bombs, wrong shapes, wrong encodings, and what is no file."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.attacks import ANY, Attack, Change, shapes

MANY = 5_000_000
"""Equal rows of a Parquet file of a few kilobytes."""
LINE = 600_000_000
"""Bytes of a line, in a compressed file of less than a megabyte."""
BLOCK = 10_000_000
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
MULTI = "text-classification"
DEEP = 10_000
CELLS: dict[str, str] = {
    "lists": "[" * DEEP + "]" * DEEP,
    "signs": "-" * 100_000 + "1",
    "sums": "1+" * 50_000 + "1",
    "words": "not " * 30_000 + "1",
    "brackets": "(" * DEEP,
    "a call": "__import__('os').system('id')",
    "a power": "9**9**9",
    "commas": ",".join("a" * 100_000),
    "a surrogate": "\ud800",
    "zeros": "\0\0",
    "controls": "\x1b[31m\x1b]0;owned\x07\r\n::error::x\n\u202e\u2028",
    "a megabyte": "x" * 1_000_000,
    "a formula": '=HYPERLINK("http://x")',
    "a script": "<script>alert(1)</script>",
    "a list of controls": "['\\x1b[31m', 'b']",
}
"""Texts that one cell of a row has."""


def attacks(template: Path) -> Iterator[Attack]:
    """Yield the attacks; ``template``: the project that they will change copies of."""
    yield from _contents()
    yield from _cells()
    yield from _bombs()
    yield from _parquet()
    yield from _tables()
    yield from _places()


def _contents() -> Iterator[Attack]:
    for ending in ("jsonl", "json", "csv", "tsv", "parquet"):
        for name, content in shapes.TEXTS.items():
            path = f"rows.{ending}"
            change = _rows(path, content)
            yield Attack(f"{path} is {name}", change, ("plan", "tiny.yaml"), (2,))
    for name, content in shapes.TEXTS.items():
        change = shapes.writing("rows.jsonl", content)
        command = ("predict", "tiny", "--data", "rows.jsonl", "--out", "out.jsonl")
        yield Attack(f"predicted: {name}", change, command, (0, 2))
        command = ("init", "new.yaml", "--model", "model", "--train", "rows.jsonl", "--yes")
        yield Attack(f"init: {name}", change, command, (2,))


def _cells() -> Iterator[Attack]:
    for column in ("text", "label"):
        for name, value in shapes.VALUES.items():
            change = _rows("rows.jsonl", _lines({column: value}))
            yield Attack(f"{column} is {name}", change, ("plan", "tiny.yaml"), ANY)
        for name, text in CELLS.items():
            change = _rows("rows.jsonl", _lines({column: text}))
            yield Attack(f"{column} is {name}", change, ("plan", "tiny.yaml"), ANY)
            change = _rows("rows.jsonl", _lines({column: text}, 60))
            command = ("init", "new.yaml", "--model", "model", "--train", "rows.jsonl", "--yes")
            yield Attack(f"init: all {column} are {name}", change, command, ANY)
    for task in ("multi-label-classification", "token-classification", "embeddings", "regression"):
        for name, text in CELLS.items():
            change = _rows("rows.jsonl", _lines({"label": text}), task)
            yield Attack(f"{task}: label is {name}", change, ("plan", "tiny.yaml"), ANY)
        nested = b'{"text": "a", "label": ' + b"[" * 900 + b"]" * 900 + b"}\n"
        yield Attack(
            f"{task}: lists", _rows("rows.jsonl", nested, task), ("plan", "tiny.yaml"), (2,)
        )


def _bombs() -> Iterator[Attack]:
    for ending in ("jsonl", "csv", "tsv", "json"):
        for name, compress in COMPRESSED.items():
            for what, content in (("a line", b"a"), ("lists", b"["), ("rows", b'{"text": "a"}\n')):
                path = f"rows.{ending}.{name}"
                change = _bomb(path, compress, content)
                yield Attack(f"{path}: {what}", change, ("plan", "tiny.yaml"), (2,))
    for command in (
        ("predict", "tiny", "--data", "rows.jsonl.gz", "--out", "out.jsonl"),
        ("init", "new.yaml", "--model", "model", "--train", "rows.jsonl.gz", "--yes"),
    ):
        change = _bomb("rows.jsonl.gz", gzip.compress, b"a")
        yield Attack(f"a bomb: {command[0]}", change, command, (2,))


def _bomb(path: str, compress: Callable[[bytes], bytes], content: bytes) -> Change:
    """Return the change that writes 600 MB, compressed: the same part many times."""

    def change(project: Path) -> None:
        part = compress(content * (BLOCK // len(content)))
        _rows(path, part * (LINE // BLOCK))(project)

    return change


def _parquet() -> Iterator[Attack]:
    command = ("plan", "tiny.yaml")
    yield Attack("parquet: equal rows", _many_rows, command, (2,))
    yield Attack("parquet: a long text in each row", _long_texts, command, (2,))
    yield Attack("parquet: many columns", _many_columns, command, ANY)
    predict = ("predict", "tiny", "--data", "rows.parquet", "--out", "out.jsonl")
    yield Attack("parquet: equal rows, predicted", _many_rows, predict, (2,))
    for kind in ("binary", "list", "struct", "null", "decimal", "time", "map"):
        change = _typed(kind)
        yield Attack(f"parquet: labels are {kind}", change, command, ANY)
    for seed in range(40):
        yield Attack(f"parquet: bytes are others, {seed}", _noisy(seed), command, ANY)


def _write_parquet(project: Path, columns: dict[str, Any], **options: Any) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), project / "rows.parquet", **options)
    _recipe(project, "rows.parquet")


def _many_rows(project: Path) -> None:
    import numpy
    import pyarrow

    indices = numpy.zeros(MANY, dtype=numpy.int32)
    equal = pyarrow.DictionaryArray.from_arrays(indices, ["fine"])
    _write_parquet(project, {"text": equal, "label": equal}, compression="zstd")


def _long_texts(project: Path) -> None:
    import numpy
    import pyarrow

    indices = numpy.zeros(2000, dtype=numpy.int32)
    long = pyarrow.DictionaryArray.from_arrays(indices, ["fine " * 1_000_000])
    label = pyarrow.DictionaryArray.from_arrays(indices, ["yes"])
    _write_parquet(project, {"text": long, "label": label}, compression="zstd")


def _many_columns(project: Path) -> None:
    columns = {f"c{at}": ["a"] for at in range(20_000)}
    _write_parquet(project, columns | {"text": ["a"], "label": ["b"]})


def _typed(kind: str) -> Change:
    def change(project: Path) -> None:
        import pyarrow

        types = {
            "binary": pyarrow.array([b"\xff", b"a"] * 20),
            "list": pyarrow.array([["a"], ["b"]] * 20),
            "struct": pyarrow.array([{"a": 1}, {"a": 2}] * 20),
            "null": pyarrow.nulls(40),
            "decimal": pyarrow.array([1, 2] * 20).cast(pyarrow.decimal128(30, 2)),
            "time": pyarrow.array([1, 2**62] * 20).cast(pyarrow.timestamp("ns")),
            "map": pyarrow.array(
                [[("a", 1)]] * 40, pyarrow.map_(pyarrow.string(), pyarrow.int64())
            ),
        }
        texts = [f"text {at}" for at in range(40)]
        _write_parquet(project, {"text": texts, "label": types[kind]})

    return change


def _noisy(seed: int) -> Change:
    def change(project: Path) -> None:
        texts = [f"text {at}" for at in range(40)]
        _write_parquet(project, {"text": texts, "label": ["yes", "no"] * 20})
        path = project / "rows.parquet"
        content = bytearray(path.read_bytes())
        draw = random.Random(seed)
        for _ in range(3):
            content[draw.randrange(4, len(content) - 4)] = draw.randrange(256)
        path.write_bytes(bytes(content[: draw.choice((len(content), len(content) // 2))]))

    return change


def _tables() -> Iterator[Attack]:
    header = b"text,label\n"
    texts: dict[str, bytes] = {
        "a quote that nothing closes": header + b'"a' + b"b,c\n" * 1_000_000,
        "a field of 20 MB": header + b"a" * 20_000_000 + b",yes\n",
        "many columns": b",".join([b"text"] * 200_000) + b"\n" + b"," * 200_000,
        "zero bytes": header + b"a\0b,yes\n" * 100,
        "only carriage returns": b"text,label\ra,yes\rb,no\r",
        "latin-1": header + "grün,ja\nrot,nein\n".encode("latin-1"),
        "controls in the header": b"text,\x1b[31mlabel\na,b\n",
        "no rows": header,
        "empty lines": header + b"\n" * 1000,
        "more fields": header + b"a,b,c\n" * 10,
        "controls": header + b"".join(b"a%d,\x1b[31m%d\n" % (at, at % 2) for at in range(40)),
        "commands": header + b"".join(b"a%d,::error::%d\n" % (at, at % 2) for at in range(40)),
        "a label each": header + b"".join(b"a%d,l%d\n" % (at, at) for at in range(100_000)),
    }
    for name, content in texts.items():
        for ending, separator in (("csv", b","), ("tsv", b"\t")):
            change = _rows(f"rows.{ending}", content.replace(b",", separator))
            yield Attack(f"{ending}: {name}", change, ("plan", "tiny.yaml"), ANY)


def _places() -> Iterator[Attack]:
    def pipe(project: Path) -> None:
        os.mkfifo(project / "rows.jsonl")
        _recipe(project, "rows.jsonl")

    def folder(project: Path) -> None:
        (project / "rows.jsonl").mkdir()
        _recipe(project, "rows.jsonl")

    def link(target: str) -> Change:
        def change(project: Path) -> None:
            (project / "rows.jsonl").symlink_to(target)
            _recipe(project, "rows.jsonl")

        return change

    def locked(project: Path) -> None:
        _rows("rows.jsonl", _lines({}))(project)
        (project / "rows.jsonl").chmod(0)

    changes = {"a pipe": pipe, "a folder": folder}
    for target in ("/dev/zero", "/dev/null", "rows.jsonl", "nowhere", "/proc/self/mem"):
        changes[f"a link to {target}"] = link(target)
    for name, change in changes.items():
        for command in (
            ("plan", "tiny.yaml"),
            ("predict", "tiny", "--data", "rows.jsonl", "--out", "out.jsonl"),
            ("init", "new.yaml", "--model", "model", "--train", "rows.jsonl", "--yes"),
            ("compare", "tiny", "production", "--data", "rows.jsonl"),
        ):
            yield Attack(f"{name}: {command[0]}", change, command)
    for command in (
        ("plan", "tiny.yaml"),
        ("predict", "tiny", "--data", "rows.jsonl", "--out", "o.csv"),
    ):
        yield Attack(f"locked: {command[0]}", locked, command, as_nobody=True)


def _lines(changes: dict[str, Any], count: int = 1) -> bytes:
    """Return 60 rows of JSON, the first of which have other values."""
    rows: list[dict[str, Any]] = []
    for at in range(60):
        row = {"text": f"text number {at}", "label": ("yes", "no")[at % 2]}
        rows.append(row | (changes if at < count else {}))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _rows(path: str, content: bytes, task: str = "text-classification") -> Change:
    """Return the change that trains on a file with this content."""

    def change(project: Path) -> None:
        (project / path).write_bytes(content)
        _recipe(project, path, task)

    return change


def _recipe(project: Path, train: str, task: str = "text-classification") -> None:
    (project / "tiny.yaml").write_text(
        f"name: tiny\nmodel: model\ntask: {task}\ndata: {{train: {train}, eval: eval.jsonl}}\n"
        "stages:\n  - finetune: {epochs: 1}\n  - export\n"
    )
