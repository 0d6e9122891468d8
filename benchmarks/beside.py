"""Compare the demo of this commit with another commit's: did a refactoring change the results?

    python -m benchmarks.beside COMMIT           both in fresh clones, about twenty minutes
    python -m benchmarks.beside COMMIT --in DIR  in clones in DIR; they and finished parts are kept

Needs a quiet machine with two cores. Quick commands are timed alternately.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.demo import RECIPE, SEEDS, Checkout, fresh_clone
from benchmarks.record import Claim, finish

SLOWER = 1.2
"""A quick command may take at most this many times as long."""
TURNS = 7
ENGINE = "from benchmarks.engine_cost import seconds_per_stage as s; print(s())"


def demo_of(folder: Path, commit: str) -> tuple[Checkout, dict[str, Any]]:
    """Run the demo at a commit in a clone, unless it ran there already; return its record."""
    if not (folder / ".rarefy/runs/demo/run.json").is_file():
        checkout = fresh_clone(folder) if not folder.exists() else Checkout(folder, "")
        subprocess.run(["git", "checkout", "-q", commit], cwd=folder, check=True)
        checkout.call(f"make demo at {commit[:12]}", "make", "demo")
    checkout = Checkout(folder, str(folder / ".venv/bin/rarefy"))
    checkout.run("rarefy run again")  # all cached: another recipe of this name may have run here
    return checkout, json.loads((folder / ".rarefy/runs/demo/run.json").read_text())


def budget(record: dict[str, Any], metric: str, form: str) -> dict[str, float]:
    """Return a budget's result from a run's record."""
    results = record["verdict"]["budgets"]
    found: dict[str, float] = next(
        one for one in results if (one["metric"], one["form"]) == (metric, form)
    )
    return found


def inside(what: str, record: dict[str, Any], other: dict[str, Any], *key: str) -> Claim:
    """Claim that a budget's value is inside the other commit's confidence interval."""
    ours, theirs = budget(record, *key), budget(other, *key)
    return Claim(
        what,
        f"inside [{theirs['low']:.4g}, {theirs['high']:.4g}] of the other commit",
        f"{ours['value']:.4g}, was {theirs['value']:.4g}",
        theirs["low"] <= ours["value"] <= theirs["high"],
    )


def no_slower(what: str, ours: list[float], theirs: list[float]) -> Claim:
    """Claim that the median time of a quick command is at most SLOWER times the other's."""
    ratio = statistics.median(ours) / statistics.median(theirs)
    return Claim(
        f"{what}, median of {len(ours)}, timed alternately",
        f"at most {SLOWER}x",
        f"{ratio:.2f}x ({statistics.median(ours):.4f} s, was {statistics.median(theirs):.4f} s)",
        ratio <= SLOWER,
    )


def compare(folder: Path, commit: str, other: str) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Run both demos and compare them."""
    theirs, before = demo_of(folder / "other", other)
    ours, after = demo_of(folder / "this", commit)
    sizes = [record["measurements"]["models"]["candidate"]["size"] for record in (after, before)]
    times: dict[str, list[list[float]]] = {"plan": [[], []], "engine": [[], []]}
    for _ in range(TURNS):
        for place, checkout in enumerate((ours, theirs)):
            _, seconds = checkout.call("rarefy plan", checkout.rarefy, "plan", RECIPE, "--json")
            times["plan"][place].append(seconds)
            python = str(checkout.root / ".venv/bin/python")
            done, _ = checkout.call("engine cost", python, "-c", ENGINE)
            times["engine"][place].append(float(done.stdout))
    claims = [
        Claim(
            "size of the bundle's files",
            "the same to 1 %",
            f"{sizes[0]:,} B, was {sizes[1]:,} B",
            abs(sizes[0] / sizes[1] - 1) <= 0.01,
        ),
        inside("share of the teacher's accuracy kept", after, before, "accuracy", "min_retained"),
        inside("speed-up over the teacher", after, before, "latency_p50", "min_speedup"),
        no_slower("rarefy plan, all cached", *times["plan"]),
        no_slower("the engine's own cost per stage", *times["engine"]),
    ]
    return theirs.rows + ours.rows, claims


def main() -> int:
    """Run both and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="the other commit")
    parser.add_argument("--in", dest="folder", type=Path)
    given = parser.parse_args()
    here = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory(prefix="rarefy-beside-") as name:
        folder = given.folder or Path(name)
        folder.mkdir(exist_ok=True)
        rows, claims = compare(folder, here.stdout.strip(), given.commit)
        return finish("beside", rows, claims, SEEDS[0])


if __name__ == "__main__":
    sys.exit(main())
