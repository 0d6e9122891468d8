"""Damaged and hostile files end a command in one line, with the exit code that says whose they are.

``benchmarks.hostile`` tries over 1,000; these are one of each kind.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rarefy.pipeline.report.ci import junit
from tests.project import Said

Rarefy = Callable[..., Said]
PREVIOUS = Path(__file__).parents[1] / "previous"
DEEP = "[" * 100_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a bundle, a tag and a run."""
    shutil.copytree(PREVIOUS / "home", tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAREFY_HOME", "home")
    return tmp_path / "home"


def bundle(home: Path) -> Path:
    """Return the folder of the store's bundle."""
    digest = json.loads((home / "store/tags/production.json").read_text())["digest"]
    return home / "store/artifacts/sha256" / str(digest)


def loose(home: Path) -> Path:
    """Return a copy of the bundle that no digest names."""
    folder = home.parent / "loose"
    shutil.copytree(bundle(home), folder)
    (folder / "manifest.json").unlink()
    return folder


def one_line(said: Said, code: int) -> str:
    """Return the one line that a command ended with."""
    assert said.code == code, said.err
    (line,) = said.err.splitlines()
    assert line.isprintable()
    assert "unexpected" not in line
    return line


def test_one_nested_record_does_not_stop_a_list(home: Path, rarefy: Rarefy) -> None:
    (bundle(home) / "run.json").write_text(DEEP)
    said = rarefy("artifact", "ls")
    assert said.code == 0
    assert "bundle" in said.out


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "tokenizer.json"])
def test_a_damaged_bundle_is_not_load_tested(home: Path, rarefy: Rarefy, name: str) -> None:
    path = bundle(home) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    rows = home.parent / "rows.jsonl"
    rows.write_text('{"text": "fine"}\n')
    said = rarefy("loadtest", "production", "--rate", "5", "--seconds", "1", "--data", rows)
    one_line(said, 6)


@pytest.mark.parametrize("name", ["signature.json", "session_options.json", "config.json"])
@pytest.mark.parametrize("content", [DEEP, "[]", "null", "{}", '{"id2label": ["a"]}'])
def test_a_foreign_bundle_of_another_form(
    home: Path, rarefy: Rarefy, name: str, content: str
) -> None:
    folder = loose(home)
    (folder / name).write_text(content)
    assert name in one_line(rarefy("predict", "loose", "fine"), 6)


def test_labels_give_a_terminal_no_commands(home: Path, rarefy: Rarefy) -> None:
    path = loose(home) / "config.json"
    labels = {"0": "\x1b]0;owned\x07no", "1": "\x9b31myes\u202e"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": labels}))
    said = rarefy("predict", "loose", "fine")
    assert said.code == 0
    assert all(line.replace("\t", "").isprintable() for line in said.out.splitlines())
    said = rarefy("predict", "loose", "fine", "--json")
    assert said.out.strip().isprintable()
    assert set(said.json["probabilities"]) == set(labels.values())


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "/dev/zero"),
        ("plan", "pipe"),
        ("plan", "x" * 300),
        ("plan", "a\x1b[31mb"),
        ("predict", "x" * 5000, "fine"),
        ("predict", "a\0b", "fine"),
        ("report", "x" * 5000),
    ],
    ids=str,
)
def test_what_can_be_no_file(home: Path, rarefy: Rarefy, words: tuple[str, ...]) -> None:
    os.mkfifo(home.parent / "pipe")
    one_line(rarefy(*words), 2)


@pytest.mark.parametrize("value", ["!!timestamp x", "!!bool x", "!!binary x", "!!int [1]"])
def test_a_tag_on_a_wrong_value_is_an_error_of_its_line(
    home: Path, rarefy: Rarefy, value: str
) -> None:
    (home.parent / "a.yaml").write_text(f"name: a\nmodel: {value}\n")
    assert one_line(rarefy("plan", "a.yaml"), 2).startswith("rarefy: a.yaml:2: not valid YAML")


def test_junit_is_well_formed_whatever_a_run_is_called() -> None:
    text = junit.broken("a\0\x1b[31m", "b\x07\ufffe")
    suite = ElementTree.fromstring(text)
    assert "\x1b" not in text
    assert suite.find(".//error") is not None
