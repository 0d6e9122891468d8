"""A checkpoint of real weights, reduced to two layers, and plans for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline.model import checkpoint, quantization
from pipeline.model.quantization import Calibration, LinearPlan, Plan
from pipeline.stage.split import Split
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from stages import ranges, sensitivity

TASK = TEXT_CLASSIFICATION.bind(("negative", "positive"), 64, ("text",))
TEXTS = [
    "A film of rare warmth, and funny besides.",
    "Dull.",
    "The plot makes no sense at all, and two hours of it are one and a half too many, I'd say.",
    "Not bad – not good either…",
    "Wonderfully acted; the ending, alas, is a let-down.",
    "I have seen worse, but not this year.",
] * 2
SPLIT = Split("train", "train.jsonl", "0" * 64, TEXTS, None, [0] * len(TEXTS))


def plan_for(directory, mode="dynamic"):
    model = checkpoint.load(directory)
    names = sensitivity.linear_layers(model)
    rows = TASK.encoder.encode(checkpoint.load_tokenizer(directory), SPLIT)
    how, limits = None, {}
    if mode == "static":
        how = Calibration(rows=len(rows))
        found = ranges.measure(model, names, rows, how)
        limits = {name: each._asdict() for name, each in found.items()}
    linears = {name: LinearPlan(precision="int8", **limits.get(name, {})) for name in names}
    return Plan(mode=mode, calibration=how, linears=linears)


def copy_with(directory, plan, target):
    target.mkdir()
    for path in directory.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    quantization.write(plan, target)
    return target


def answers_its_sample_elsewhere(bundle, needed, folder):
    """Copy a bundle and run its predict.py with nothing but the ``needed`` packages."""
    there, packages = folder / "elsewhere", folder / "packages"
    subprocess.run(["cp", "-r", str(bundle), str(there)], check=True)
    packages.mkdir()
    installed = Path(np.__file__).parents[1]
    for name in needed:
        if (installed / name).exists():
            (packages / name).symlink_to(installed / name)
    answer = subprocess.run(
        [sys.executable, "-S", "predict.py"],  # without site-packages
        cwd=there,
        env={"PYTHONPATH": str(packages)},
        input=(there / "samples/request.json").read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == json.loads((there / "samples/response.json").read_text())
