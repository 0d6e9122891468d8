"""The demo's teacher and rows, for the benchmarks of quantization and export."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bundle import ROOT
from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure import machine
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from rarefy.pipeline.stage import Context, Requirements, Stage
from rarefy.pipeline.store.artifact import Artifact, Kind, Manifest, StageRecord, list_files
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.quantization import sensitivity

DATA = ROOT / "examples" / "data" / "movie-reviews"
EVAL, TRAIN = DATA / "eval.jsonl", DATA / "train.jsonl"
LENGTH, DEV = 512, 400


def teacher() -> Path:
    """Return the folder of the demo's fine-tuned checkpoint."""
    home = ROOT / ".rarefy"
    run = home / "runs" / "demo" / "run.json"
    if not run.is_file():
        sys.exit(f"{run} is missing: run `make demo`, or name a checkpoint with --checkpoint")
    nodes = {node["id"]: node["digest"] for node in json.loads(run.read_text())["lineage"]}
    return home / "store" / "artifacts" / "sha256" / nodes["finetune"]


def source(description: str | None) -> Path:
    """Return the checkpoint that the command line names, or the demo's teacher."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--checkpoint", type=Path, default=None)
    named: Path | None = parser.parse_args().checkpoint
    return named or teacher()


def int8(source: Path, folder: Path) -> Path:
    """Copy a checkpoint to ``folder``, with every linear layer int8; return the folder."""
    shutil.copytree(source, folder)
    layers = sensitivity.linear_layers(checkpoint.load(source))
    quantization.write(
        Plan(linears={name: LinearPlan(precision="int8") for name in layers}), folder
    )
    return folder


def rows(source: Path, data: Path = DATA) -> tuple[Task, Split]:
    """Return the task of a checkpoint, and the eval rows of a data set: the demo's by default."""
    named = json.loads((source / "config.json").read_text())["label2id"]
    task = tasks.find("text-classification").bind(tuple(named), LENGTH, ("text",))
    lines = [json.loads(line) for line in (data / EVAL.name).read_text().splitlines()]
    labels = [named[str(line["label"])] for line in lines]
    return task, split([line["text"] for line in lines], labels)


def run(
    stage: Stage,
    source: Path,
    folder: Path,
    seed: int = 0,
    data: Path = DATA,
    **artifacts: Path,
) -> Path:
    """Run a stage on a checkpoint and a data set's training rows; return the folder it wrote.

    The first rows are the development split.

    Args:
        stage: to run.
        source: the checkpoint.
        folder: for the stage's work and output; if it is complete, nothing is run.
        seed: of the stage.
        data: folder of the data set.
        artifacts: id -> another checkpoint or report that the stage reads.
    """
    output = folder / "output"
    if (folder / "done").is_file():
        return output
    task, _ = rows(source, data)
    numbers = {label: number for number, label in enumerate(task.labels)}
    lines = [json.loads(line) for line in (data / TRAIN.name).read_text().splitlines()]

    def part(name: str, rows: list[dict[str, Any]]) -> Split:
        texts = [row["text"] for row in rows]
        labels = [numbers[str(row["label"])] for row in rows]
        return Split(name, TRAIN.name, "0" * 64, texts, None, labels)

    shutil.rmtree(output, ignore_errors=True)
    for name in ("work", "output"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    context = Context(
        task=task,
        splits={"train": part("train", lines[DEV:]), "dev": part("dev", lines[:DEV])},
        seed=seed,
        device="cpu",
        threads=len(machine.cores()),
        work=folder / "work",
        output=output,
        artifacts={name: artifact(path) for name, path in artifacts.items()},
        base=folder,
        requirements=Requirements(targets=(Target(name="cpu"),)),
    )
    draft = stage.run(context, artifact(source))
    metrics = {metric.name: metric.model_dump() for metric in draft.metrics}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if draft.lasts:  # a disturbed measurement is taken again
        (folder / "done").touch()
    return output


def metrics(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the metrics of the stage that ``run`` ran in a folder, by name."""
    metrics: dict[str, dict[str, Any]] = json.loads((folder / "metrics.json").read_text())
    return metrics


def artifact(folder: Path) -> Artifact:
    """Return a folder as an artifact: a checkpoint, or a report if it has no config.json."""
    record = StageRecord(name="finetune", version=1, parameters={}, fingerprint="0")
    kind = Kind.CHECKPOINT if (folder / "config.json").is_file() else Kind.REPORT
    manifest = Manifest(kind=kind, stage=record, files=list_files(folder))
    return Artifact(folder, manifest, manifest.digest)


def split(texts: list[str], labels: list[int] | None = None) -> Split:
    """Return these texts as a split; all have the first label if none are given."""
    return Split("dev", EVAL.name, "0" * 64, texts, None, labels or [0] * len(texts))


def logarithms(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities, from logits (both: rows, labels)."""
    wide = logits.astype(np.float64)
    logarithms: NDArray[np.float64] = wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)
    return logarithms
