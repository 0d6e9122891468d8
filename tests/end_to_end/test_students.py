"""The chain of choose-a-student.md runs, and a second student costs only its own training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store.artifact import Kind
from tests.conftest import QUICK, Workshop

PAGE = Path(__file__).parents[2] / "docs/how-to/choose-a-student.md"


def stages() -> list[Any]:
    """Return the page's stages, with the teacher made first and everything quick."""
    block = re.search(r"^```yaml\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    found = yaml.safe_load(block[1].replace("model, assistant", "teacher, assistant"))["stages"]
    for stage in found:
        if "distill" in stage:
            stage["distill"] |= {"epochs": 1}
        if isinstance(stage, dict) and "validate" in stage:
            stage["validate"] |= QUICK
    return [{"quick:Head": None, "as": "teacher"}, *found]


def test_the_chain_of_the_page_runs_and_another_student_reuses_it(
    workshop: Workshop, known_times: None
) -> None:
    chain = stages()
    finished = workshop.run(*chain)
    kinds = {name: step.artifact.kind for name, step in finished.items()}
    assert kinds["augment"] == kinds["labels"] == kinds["both"] == Kind.TRANSFER_SET
    student = checkpoint.load(finished["student"].artifact.directory)
    assert len(checkpoint.encoder_layers(student)) == 1
    assert finished["export"].artifact.manifest.model["precision"] == "int8"
    place = next(
        at for at, s in enumerate(chain) if isinstance(s, dict) and s.get("as") == "student"
    )
    chain[place]["distill"] |= {"learning_rate": 3e-4}
    again = workshop.open(*chain).plan.steps()
    fresh = {step.id for step in again if not step.cached}
    assert fresh == {"student", "quantize", "export", "validate"}


def test_another_eval_file_trains_no_student_again_unless_its_texts_were_learned(
    workshop: Workshop,
) -> None:
    chain = stages()[:3]
    texts = workshop.run(*chain)["augment"].artifact.path("texts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in (workshop.folder / "eval.jsonl").read_text().splitlines()]
    for text, trained in (
        ("No row is like this one.", False),
        (json.loads(texts[0])["text"], True),
    ):
        workshop.write_rows("eval.jsonl", [*rows, rows[0] | {"text": text}])
        again = workshop.run(*chain)
        assert not again["augment"].cached
        assert again["labels"].cached is not trained
