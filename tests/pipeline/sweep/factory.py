"""A small sweep of a recipe whose files need not exist, and branches made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rarefy.pipeline.sweep import file as sweep_file
from rarefy.pipeline.sweep.branch import Branch, StepRow
from rarefy.pipeline.sweep.file import Sweep
from rarefy.pipeline.terms.interval import Interval

RECIPE = """\
name: base
model: models/encoder
data: {train: rows/train.jsonl, eval: rows/eval.jsonl}
stages:
  - finetune: {epochs: 1}
  - {augment: {spans: 1}, as: more}
  - distill: {keep_layers: 2}
  - {prune: {remove_heads: 25 %}, as: slim}
  - quantize
  - export
  - validate
budgets:
  - {metric: accuracy, max_drop: 3 points, against: finetune}
"""
VARY: dict[str, Any] = {"distill.keep_layers": [1, 2], "slim.remove_heads": ["25 %", "50 %"]}


def write(folder: Path, **given: Any) -> Path:
    """Write the recipe and a sweep of it; ``given`` are the sweep's other keys."""
    (folder / "base.yaml").write_text(RECIPE)
    path = folder / "sweep.yaml"
    values = {"name": "many", "recipe": "base.yaml", "vary": VARY} | given
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def load(folder: Path, **given: Any) -> Sweep:
    return sweep_file.load(write(folder, **given))


def branch(name: str, accuracy: float, ms: float, size: int, **given: Any) -> Branch:
    """Return a branch that is done."""
    values = given.pop("values", {"distill.keep_layers": 1, "slim.remove_heads": "25 %"})
    steps = [
        StepRow(id="distill", digest="d" * 64, cached=False, seconds=2.0, accuracy=_at(accuracy))
    ]
    return Branch(
        name=name,
        values=values,
        **{
            "state": "done",
            "steps": steps,
            "metric": "accuracy",
            "accuracy": _at(accuracy),
            "latency": Interval(ms, ms * 0.9, ms * 1.1),
            "size": size,
            "bundle": "b" * 64,
        }
        | given,
    )


def _at(value: float) -> Interval:
    return Interval(value, value - 0.02, value + 0.02)
