"""Run the demo from a fresh clone to its verdict: time, memory, speed, size, accuracy, caching.

    python -m benchmarks.demo            everything, about half an hour
    python -m benchmarks.demo --here     with the environment and store of this checkout
    python -m benchmarks.demo --in DIR   in a clone in DIR, which is kept

Needs a quiet machine with two cores. Nothing is installed outside the clone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import Claim, finish
from benchmarks.resident import Resident

if TYPE_CHECKING:
    from rarefy.pipeline.verdict.record import ReportData

ROOT = Path(__file__).parent.parent
RECIPE = "examples/demo.yaml"
SEEDS = (0, 1, 2)


class Checkout:
    """A checkout with an environment; times the commands run in it."""

    def __init__(self, root: Path, rarefy: str) -> None:
        self.root, self.rarefy = root, rarefy
        self.rows: list[dict[str, Any]] = []

    def call(self, what: str, *command: str) -> tuple[subprocess.CompletedProcess[str], float]:
        """Run a command; record its wall time and exit code."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        began = time.perf_counter()
        done = subprocess.run(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        seconds = time.perf_counter() - began
        self.rows.append({"what": what, "seconds": round(seconds, 2), "exit_code": done.returncode})
        print(f"{seconds:8.1f} s  exit {done.returncode}  {what}", file=sys.stderr)
        return done, seconds

    def run(self, what: str, *options: str, recipe: str = RECIPE) -> tuple[dict[str, Any], float]:
        """Run a recipe inline with --json; return its parsed output and wall time."""
        command = (self.rarefy, "run", recipe, "--engine", "inline", "--json", *options)
        done, seconds = self.call(what, *command)
        return json.loads(done.stdout), seconds


def fresh_clone(folder: Path) -> Checkout:
    """Clone the committed state of this repository; make demo creates the environment."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return Checkout(folder, str(folder / ".venv/bin/rarefy"))


def demo(checkout: Checkout) -> list[Claim]:
    """Run the demo from scratch, then again with everything cached."""
    with Resident() as memory:
        done, seconds = checkout.call("make demo, install included", "make", "demo")
    passed = done.returncode == 0 and "verdict: pass" in done.stdout
    again, cached_seconds = checkout.run("rarefy run again, inline")
    hits = all(row["cached"] for row in again["ledger"] if row["digest"])
    checkout.call("rarefy plan (warms the disk cache)", checkout.rarefy, "plan", RECIPE)
    plan, shown = (
        statistics.median(
            checkout.call(" ".join(("rarefy", *words)), checkout.rarefy, *words)[1]
            for _ in range(5)
        )
        for words in (("plan", RECIPE, "--json"), ("--help",))
    )
    return [
        Claim(
            "make demo in a fresh clone ends with exit code 0 and a passing verdict",
            "at most 12 minutes, install included",
            f"{seconds / 60:.1f} minutes, {'passed' if passed else 'did not pass'}",
            passed and seconds <= 720,
        ),
        Claim(
            "a second run is all cache hits",
            "at most 10 s inline",
            f"{cached_seconds:.1f} s, {'all hits' if hits else 'not all hits'}",
            hits and cached_seconds <= 10,
        ),
        Claim(
            "peak resident memory of all processes of the demo together",
            "under 3 GB",
            f"{memory.peak / 1e9:.2f} GB (the largest process alone: {memory.largest / 1e9:.2f})",
            memory.peak < 3e9,
        ),
        Claim("plan on the cached demo", "under 1 s", f"{plan:.2f} s (median of 5)", plan < 1),
        Claim("rarefy --help", "under 0.5 s", f"{shown:.2f} s (median of 5)", shown < 0.5),
    ]


def others(checkout: Checkout) -> list[str]:
    """Run the demo's recipe with other seeds, its teacher too; return the names of all runs."""
    text = (checkout.root / RECIPE).read_text()
    names = ["demo"]
    for seed in SEEDS[1:]:
        name = f"demo-{seed}"
        recipe = checkout.root / f"examples/{name}.yaml"
        recipe.write_text(text.replace("name: demo\n", f"name: {name}\nseed: {seed}\n"))
        try:
            checkout.run(f"the recipe with seed {seed}", recipe=f"examples/{name}.yaml")
        finally:
            recipe.unlink()
        names.append(name)
    return names


def gains(checkout: Checkout, names: list[str]) -> list[Claim]:
    """Return the runs' comparison of the bundle with its teacher in fused fp32 ONNX Runtime."""
    from rarefy.pipeline.measure.measurements import CANDIDATE
    from rarefy.pipeline.report import facts
    from rarefy.pipeline.run.folder import read

    paces, shares, shrunk = [], [], []
    for name in names:
        data = read(checkout.root / ".rarefy/runs" / name)
        measured, fast, kept = data.measurements, facts.speedup(data, "cpu"), facts.retained(data)
        assert measured is not None
        assert fast is not None
        assert kept is not None
        assert facts.reference(data) == "finetune"
        checkout.rows += table(name, data)
        paces.append(fast)
        shares.append(kept)
        shrunk.append(measured.models["finetune"].size / measured.models[CANDIDATE].size)
    pace, share = (statistics.mean(each.value for each in of) for of in (paces, shares))
    return [
        Claim(
            "faster than the teacher in fused fp32 ONNX Runtime, batch 1, unpadded, one thread",
            f"at least 12x (mean of {len(names)} seeds)",
            f"{pace:.2f}x; "
            + ", ".join(f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in paces),
            pace >= 12,
        ),
        Claim(
            "smaller than the teacher's bundle",
            "at least 5x, every seed",
            ", ".join(f"{each:.2f}x" for each in shrunk),
            min(shrunk) >= 5,
        ),
        Claim(
            "share of the teacher's accuracy kept on the held-out split",
            f"at least 98.7 % (mean of {len(names)} seeds)",
            f"{share:.1%}; "
            + ", ".join(f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}]" for e in shares),
            share >= 0.987,
        ),
    ]


def table(name: str, data: ReportData) -> list[dict[str, Any]]:
    """Return what the README shows of a run: the teacher, the bundle, and one over the other.

    Latencies in ms, size and memory in bytes; ratios with the ends of their intervals.
    """
    from rarefy.pipeline.measure.measurements import CANDIDATE

    found = data.measurements
    assert found is not None
    timed = found.latency["cpu"]
    made: list[dict[str, Any]] = []
    for model in ("finetune", CANDIDATE):
        own = found.models[model]
        row = {"what": f"{name}: {model}", "accuracy": found.score("accuracy", model).value}
        row |= {f"p{p}": timed.percentile(model, p).value for p in (50, 95)}
        made.append(row | {"size": own.size, "memory": own.memory, "parameters": own.parameters})
    ratios = {f"p{p}": timed.ratio("finetune", CANDIDATE, p)._asdict() for p in (50, 95)}
    return [*made, {"what": f"{name}: speed-up", **ratios}]


def engine_cost() -> list[Claim]:
    """Measure the engine's own time per stage on a chain of stages that copy a small checkpoint."""
    from benchmarks.engine_cost import seconds_per_stage

    cost = seconds_per_stage()
    return [
        Claim(
            "the engine's own cost per stage (fingerprint, hashing, publishing; 1 MB)",
            "under 50 ms",
            f"{cost * 1000:.1f} ms (median)",
            cost < 0.05,
        )
    ]


def changed_data(checkout: Checkout) -> list[Claim]:
    """Change one byte of the eval file in place, and keep its size and modification time."""
    path = checkout.root / "examples/data/movie-reviews/eval.jsonl"
    before, stat = path.read_bytes(), path.stat()
    known, _ = checkout.run("before the flip (all cached)")
    changed = before.replace(b'"label": "negative"', b'"label": "positive"', 1)
    at = next(i for i, (a, b) in enumerate(zip(before, changed, strict=True)) if a != b)
    one_byte = before[: at - 30] + bytes([before[at - 30] ^ 1]) + before[at - 29 :]
    try:
        path.write_bytes(one_byte)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        again, _ = checkout.run("one byte of the eval file flipped in place")
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    by_id = {row["id"]: row for row in again["ledger"]}
    measured_again = not by_id["validate"]["cached"]
    asked = {"augment", "validate"}  # both read eval; the first finds the same texts
    kept = all(row["cached"] for row in again["ledger"] if row["stage"] not in asked)
    digests = {row["digest"] for row in known["ledger"]} - {by_id["validate"]["digest"]}
    return [
        Claim(
            "one byte of the eval file flipped in place: measures again, does not retrain",
            "augment and validate, which read it, run; the rest is cached",
            f"validate {'ran' if measured_again else 'was cached'}, the rest "
            f"{'was cached' if kept else 'ran too'}; {len(digests)} digests known before",
            measured_again and kept,
        )
    ]


def impossible(checkout: Checkout) -> list[Claim]:
    """Run budgets that no model can meet: exit code 3, and every one is listed."""
    text = (checkout.root / RECIPE).read_text()
    head = text[: text.index("budgets:")]
    asked = (
        "{metric: accuracy, min: 100 %}",
        "{metric: latency_p50, max: 0.001 ms}",
        "{metric: size, max: 1 kB}",
    )
    recipe = checkout.root / "examples/impossible.yaml"
    recipe.write_text(head + "budgets:\n" + "".join(f"  - {budget}\n" for budget in asked))
    try:
        output, _ = checkout.run("impossible budgets", recipe="examples/impossible.yaml")
    finally:
        recipe.unlink()
    failed = [budget["metric"] for budget in output["budgets"] if budget["outcome"] == "fail"]
    return [
        Claim(
            "impossible budgets",
            f"exit code 3, all {len(asked)} listed",
            f"exit code {output['exit_code']}, {len(failed)} listed as missed",
            output["exit_code"] == 3 and len(failed) == len(asked),
        )
    ]


def main() -> int:
    """Run all parts and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--in", dest="folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="rarefy-demo-"))
    try:
        if given.here:
            checkout = Checkout(ROOT, shutil.which("rarefy") or str(ROOT / ".venv/bin/rarefy"))
        else:
            checkout = fresh_clone(folder / "rarefy")
        claims = demo(checkout)
        claims += (
            gains(checkout, others(checkout))
            + engine_cost()
            + changed_data(checkout)
            + impossible(checkout)
        )
        name = "demo-here" if given.here else "demo"
        return finish(name, checkout.rows, claims, SEEDS[0])
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
