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
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.record import Claim, finish, is_at_least, mean
from rarefy.stages.training.parameters import cpu_has_bf16

if TYPE_CHECKING:
    from rarefy.pipeline.verdict.record import ReportData

ROOT = Path(__file__).parent.parent
RECIPE = "examples/demo.yaml"
SEEDS = (0, 1, 2)


class MemoryWatch(threading.Thread):
    """Samples the sum of the descendants' proportional set sizes (PSS) inside a ``with`` block.

    Pages that processes share are counted once. ``peak`` is the maximum of the sum, ``largest`` the
    largest resident set of one process, both in bytes.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = self.largest = 0
        self._done = threading.Event()

    def __enter__(self) -> MemoryWatch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        """Sample twice a second until the block ends."""
        while not self._done.wait(0.5):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    memory = process.memory_full_info()
                except psutil.Error:
                    continue  # it has ended in the meantime
                total += memory.pss
                self.largest = max(self.largest, memory.rss)
            self.peak = max(self.peak, total)


class Checkout:
    """A checkout with an environment; times the commands run in it."""

    def __init__(self, root: Path, rarefy: str) -> None:
        self.root, self.rarefy = root, rarefy
        self.rows: list[dict[str, Any]] = []

    def call(self, title: str, *command: str) -> tuple[subprocess.CompletedProcess[str], float]:
        """Run a command; record its wall time in seconds and its exit code."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        began = time.perf_counter()
        process = subprocess.run(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        seconds = time.perf_counter() - began
        code = process.returncode
        self.rows.append({"what": title, "seconds": round(seconds, 2), "exit_code": code})
        print(f"{seconds:8.1f} s  exit {code}  {title}", file=sys.stderr)
        return process, seconds

    def run(self, title: str, *options: str, recipe: str = RECIPE) -> tuple[dict[str, Any], float]:
        """Run a recipe inline with --json; return its parsed output and wall time in seconds."""
        command = (self.rarefy, "run", recipe, "--engine", "inline", "--json", *options)
        process, seconds = self.call(title, *command)
        return json.loads(process.stdout), seconds

    def seconds(self, *words: str) -> float:
        """Return the median wall time of a rarefy command, in seconds."""
        times = []
        for _ in range(5):
            _, seconds = self.call(f"rarefy {' '.join(words)}", self.rarefy, *words)
            times.append(seconds)
        return statistics.median(times)


def fresh_clone(folder: Path) -> Checkout:
    """Clone the committed state of this repository; make demo creates the environment."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return Checkout(folder, str(folder / ".venv/bin/rarefy"))


def demo(checkout: Checkout) -> list[Claim]:
    """Run the demo from scratch, then again with everything cached."""
    if not (checkout.root / ".venv/.runtime").exists():
        checkout.call("packages: downloads and installation", "make", ".venv/.runtime")
    with MemoryWatch() as memory:
        process, seconds = checkout.call("make demo", "make", "demo")
    limit = 6 if cpu_has_bf16() else 10
    passed = process.returncode == 0 and "verdict: pass" in process.stdout
    again, cached_seconds = checkout.run("rarefy run again, inline")
    hits = all(row["cached"] for row in again["ledger"] if row["digest"])
    checkout.call("rarefy plan (warms the disk cache)", checkout.rarefy, "plan", RECIPE)
    plan = checkout.seconds("plan", RECIPE, "--json")
    shown = checkout.seconds("--help")
    return [
        Claim(
            "make demo in a fresh clone ends with exit code 0 and a passing verdict",
            f"at most {limit} minutes, packages apart",
            f"{seconds / 60:.1f} minutes, {'passed' if passed else 'did not pass'}",
            passed and seconds <= limit * 60,
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


def run_other_seeds(checkout: Checkout) -> list[str]:
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

    speedups, shares, smaller, teachers = [], [], [], []
    for name in names:
        report = read(checkout.root / ".rarefy/runs" / name)
        speedup = facts.speedup(report, "cpu")
        share = facts.retained(report)
        assert report.measurements is not None
        assert speedup is not None
        assert share is not None
        assert facts.reference(report) == "finetune"
        checkout.rows += table(name, report)
        speedups.append(speedup)
        shares.append(share)
        models = report.measurements.models
        smaller.append(models["finetune"].size / models[CANDIDATE].size)
        teachers.append(report.measurements.score("accuracy", "finetune"))
    fastest = 12 if "avx512_vnni" in Path("/proc/cpuinfo").read_text() else 8
    mean_speedup, mean_share, mean_teacher = mean(speedups), mean(shares), mean(teachers)
    speedup_list = [f"{s.value:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in speedups]
    share_list = [f"{s.value:.1%} [{s.low:.1%}, {s.high:.1%}]" for s in shares]
    teacher_list = [f"{t.value:.2%} [{t.low:.2%}, {t.high:.2%}]" for t in teachers]
    return [
        Claim(
            "faster than the teacher in fused fp32 ONNX Runtime, batch 1, unpadded, one thread",
            f"at least {fastest}x on this CPU (mean of {len(names)} seeds)",
            f"{mean_speedup.value:.2f}x; {', '.join(speedup_list)}",
            is_at_least(mean_speedup, fastest),
        ),
        Claim(
            "smaller than the teacher's bundle",
            "at least 5x, every seed",
            ", ".join(f"{ratio:.2f}x" for ratio in smaller),
            min(smaller) >= 5,
        ),
        Claim(
            "share of the teacher's accuracy retained on the held-out split",
            f"at least 97 % (mean of {len(names)} seeds)",
            f"{mean_share.value:.1%}; {', '.join(share_list)}",
            is_at_least(mean_share, 0.97),
        ),
        Claim(
            "accuracy of the teacher on the held-out split",
            f"at least 86.0 % (mean of {len(names)} seeds)",
            f"{mean_teacher.value:.2%}; {', '.join(teacher_list)}",
            is_at_least(mean_teacher, 0.86),
        ),
    ]


def table(name: str, report: ReportData) -> list[dict[str, Any]]:
    """Return what the README shows of a run: the teacher, the bundle, and one over the other.

    Latencies in ms, size and memory in bytes; ratios with the ends of their intervals.
    """
    from rarefy.pipeline.measure.measurements import CANDIDATE

    measurements = report.measurements
    assert measurements is not None
    timed = measurements.latency["cpu"]
    rows: list[dict[str, Any]] = []
    for model in ("finetune", CANDIDATE):
        costs = measurements.models[model]
        row = {
            "what": f"{name}: {model}",
            "accuracy": measurements.score("accuracy", model).value,
            "p50": timed.percentile(model, 50).value,
            "p95": timed.percentile(model, 95).value,
            "size": costs.size,
            "memory": costs.memory,
            "parameters": costs.parameters,
        }
        rows.append(row)
    speedups = {
        "what": f"{name}: speed-up",
        "p50": timed.ratio("finetune", CANDIDATE, 50)._asdict(),
        "p95": timed.ratio("finetune", CANDIDATE, 95)._asdict(),
    }
    return [*rows, speedups]


def changed_data(checkout: Checkout) -> list[Claim]:
    """Change one byte of the eval file in place, and keep its size and modification time."""
    path = checkout.root / "examples/data/movie-reviews/eval.jsonl"
    before, stat = path.read_bytes(), path.stat()
    first, _ = checkout.run("before the flip (all cached)")
    changed = bytearray(before)
    changed[before.index(b'"label": "negative"') - 20] ^= 1  # in a text
    try:
        path.write_bytes(changed)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        again, _ = checkout.run("one byte of the eval file flipped in place")
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    by_id = {row["id"]: row for row in again["ledger"]}
    measured_again = not by_id["validate"]["cached"]
    readers = {"augment", "validate"}  # of eval; the first finds the same texts
    cached = all(row["cached"] for row in again["ledger"] if row["stage"] not in readers)
    digests = {row["digest"] for row in first["ledger"]} - {by_id["validate"]["digest"]}
    validate = "ran" if measured_again else "was cached"
    rest = "was cached" if cached else "ran too"
    return [
        Claim(
            "one byte of the eval file flipped in place: measures again, does not retrain",
            "augment and validate, which read it, run; the rest is cached",
            f"validate {validate}, the rest {rest}; {len(digests)} digests known before",
            measured_again and cached,
        )
    ]


def impossible(checkout: Checkout) -> list[Claim]:
    """Run budgets that no model can meet: exit code 3, and every one is listed."""
    text = (checkout.root / RECIPE).read_text()
    head = text[: text.index("budgets:")]
    budgets = (
        "{metric: accuracy, min: 100 %}",
        "{metric: latency_p50, max: 0.001 ms}",
        "{metric: size, max: 1 kB}",
    )
    recipe = checkout.root / "examples/impossible.yaml"
    recipe.write_text(head + "budgets:\n" + "".join(f"  - {budget}\n" for budget in budgets))
    try:
        output, _ = checkout.run("impossible budgets", recipe="examples/impossible.yaml")
    finally:
        recipe.unlink()
    missed = [budget["metric"] for budget in output["budgets"] if budget["outcome"] == "fail"]
    return [
        Claim(
            "impossible budgets",
            f"exit code 3, all {len(budgets)} listed",
            f"exit code {output['exit_code']}, {len(missed)} listed as missed",
            output["exit_code"] == 3 and len(missed) == len(budgets),
        )
    ]


def main() -> int:
    """Run all parts and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--in", dest="folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rarefy-demo-"))
    try:
        if options.here:
            checkout = Checkout(ROOT, shutil.which("rarefy") or str(ROOT / ".venv/bin/rarefy"))
        else:
            checkout = fresh_clone(folder / "rarefy")
        claims = demo(checkout)
        claims += gains(checkout, run_other_seeds(checkout))
        claims += changed_data(checkout)
        claims += impossible(checkout)
        name = "demo-here" if options.here else "demo"
        return finish(name, checkout.rows, claims, SEEDS[0])
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
