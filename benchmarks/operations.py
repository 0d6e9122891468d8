"""What rarefy itself costs: a store of 10,000 artifacts, the engine, a plan, and Prefect.

    python -m benchmarks.operations

The commands are timed as a user waits for them, with the start of Python, five times each; the
store's files are in the memory of the machine. Needs a quiet machine, and about three minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.bundle import ROOT
from benchmarks.engine_cost import seconds_per_stage, tiny_model
from benchmarks.record import Claim, finish
from pipeline.store import disk
from pipeline.store.artifact import Kind, Manifest, Metric, Parent, StageRecord, list_files
from pipeline.store.store import Store

ARTIFACTS = 10_000
CHAIN = 10
"""Artifacts in a row, each made from the one before; a tenth of the rows end in a tag."""
TIMES = 5
LIMITS = {"ls": 2.0, "tag": 2.0, "gc": 2.0, "plan": 1.0}
STAGE = 0.05
STAGES = 10


def fill(root: Path) -> str:
    """Publish the artifacts; return the digest of the last."""
    store = Store(root)
    digest = None
    with mock.patch.object(disk, "sync"), mock.patch.object(os, "fsync"):
        for number in range(ARTIFACTS):
            parent = digest if number % CHAIN else None
            digest = publish(store, number, parent)
            if (number + 1) % (10 * CHAIN) == 0:
                store.tag(f"release-{number}", digest)
    assert digest is not None
    return digest


def publish(store: Store, number: int, parent: str | None) -> str:
    """Publish an artifact with the files of a checkpoint; return its digest."""
    with store.draft() as folder:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "shape.json"):
            (folder / name).write_text(f"{name} {number}")
        parents: tuple[Parent, ...] = ()
        if parent:
            parents = (Parent(digest=parent, role="input"),)
        manifest = Manifest(
            kind=Kind.CHECKPOINT,
            files=list_files(folder),
            parents=parents,
            stage=StageRecord(
                name="distill",
                version=3,
                parameters={"layers": 2, "epochs": 4, "learning_rate": 3e-4, "at": number},
                fingerprint=f"{number:064x}",
            ),
            metrics=(Metric(name="accuracy", split="eval", value=0.9, n=2000),),
        )
        record = {"started": "2026-01-01T00:00:00+00:00", "seconds": 1.0}
        return store.publish(folder, manifest, record).digest


def rarefy(*arguments: str, home: Path) -> str:
    """Run a command; return what it printed."""
    command = [sys.executable, "-m", "rarefy", *arguments, "--home", str(home)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def seconds(work: Callable[[], Any]) -> float:
    """Return the median of the times that the work takes, after one that is not counted."""
    work()
    times = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def scale(folder: Path) -> dict[str, float]:
    """Return the seconds of each command on the large store."""
    digest = fill(folder / "store")
    listed = json.loads(rarefy("artifact", "ls", "--json", home=folder))
    assert len(listed) == ARTIFACTS
    # What is not tagged and was not used today, which are nine in ten.
    collected = json.loads(rarefy("artifact", "gc", "--days", "0", "--json", home=folder))
    assert len(collected["garbage"]) == ARTIFACTS * 9 // 10
    return {
        "ls": seconds(lambda: rarefy("artifact", "ls", "--json", home=folder)),
        "tag": seconds(lambda: rarefy("artifact", "tag", "latest", digest[:12], home=folder)),
        "gc": seconds(lambda: rarefy("artifact", "gc", "--days", "0", "--json", home=folder)),
    }


def project(folder: Path, stages: int) -> Path:
    """Write a recipe of stages that only copy, with a tiny model and data; return its path."""
    tiny_model(folder / "model")
    rows = [{"text": text, "label": text} for text in ("a", "b")]
    for split in ("train", "eval"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = [
        "name: copies",
        "model: model",
        "data: {train: train.jsonl, eval: eval.jsonl}",
        "stages:",
    ]
    for number in range(stages):
        lines.append(f"  - benchmarks.engine_cost:Copy: {{round: {number}}}")
    recipe = folder / "copies.yaml"
    recipe.write_text("\n".join(lines))
    return recipe


def runs(folder: Path) -> dict[str, float]:
    """Return the seconds of a plan of a finished recipe, and of its runs with and without Prefect.

    The runs find all stages in the store, so that only rarefy's own work is timed.
    """
    home, recipe = folder / "home", project(folder, STAGES)

    def run(engine: str) -> Callable[[], str]:
        words = ("run", str(recipe), "--engine", engine, "--json")
        return lambda: attempt(*words, home=home)

    run("inline")()
    return {
        "plan": seconds(lambda: rarefy("plan", str(recipe), home=home)),
        "inline": seconds(run("inline")),
        "prefect": seconds(run("prefect")),
    }


def attempt(*arguments: str, home: Path) -> str:
    """Run a command that may end without a verdict."""
    command = [sys.executable, "-m", "rarefy", *arguments, "--home", str(home)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode in (0, 4), process.stderr
    return process.stdout


def main() -> int:
    """Measure all, and record it."""
    with tempfile.TemporaryDirectory(prefix="rarefy-scale-") as folder:
        times = scale(Path(folder))
    with tempfile.TemporaryDirectory(prefix="rarefy-runs-") as folder:
        times |= runs(Path(folder))
    times["stage"] = seconds_per_stage()
    names = {
        "ls": f"list a store of {ARTIFACTS:,} artifacts",
        "tag": f"tag an artifact by the beginning of its digest among {ARTIFACTS:,}",
        "gc": f"find what may be deleted of {ARTIFACTS:,} artifacts",
        "plan": f"plan a recipe of {STAGES} stages that are all in the store",
    }
    claims = []
    for key, limit in LIMITS.items():
        measured = f"{times[key]:.2f} s"
        claims.append(Claim(names[key], f"within {limit:.0f} s", measured, times[key] <= limit))
    claims.append(
        Claim(
            "the engine's own time for a stage",
            f"under {STAGE * 1000:.0f} ms",
            f"{times['stage'] * 1000:.0f} ms",
            times["stage"] < STAGE,
        )
    )
    share = times["prefect"] - times["inline"]
    claims.append(
        Claim(
            f"Prefect's share of a run of {STAGES} stages that are all in the store, with the "
            "server that it starts",
            "printed",
            f"{share:.1f} s of {times['prefect']:.1f} s; without Prefect {times['inline']:.1f} s",
            holds=True,
        )
    )
    return finish("operations", [times], claims, seed=0)


if __name__ == "__main__":
    sys.exit(main())
