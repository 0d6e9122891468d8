"""Run the example recipe of every task to its verdict, and a wrong student to a failing one.

    python -m benchmarks.tasks [NAME ...] [--home FOLDER]        about ten minutes a recipe

The wrong student has the layers and bytes of the right one but has hardly been trained, or, in a
recipe that only prunes, has been pruned too far, so a budget on the task's main score must fail.
Needs a quiet machine. With ``--home``, stages that are in its store are not repeated, so a run that
was stopped goes on; recipes that are not named keep what the record says of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.record import Claim, finish, here, is_at_least
from rarefy.pipeline.terms.interval import Interval

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "tasks.json"
SEED = 0
RECIPES = ("concepts", "ratings", "rerank", "addresses", "parts-of-speech", "search")
RETAINED = dict.fromkeys(RECIPES, 0.97) | {"search": 0.95}
"""The share of the teacher's main score that must be retained."""
SPEED, SIZE = 5.0, 4.0
UNTRAINED = {"epochs": 1, "learning_rate": 1e-9}
TOO_FAR = {"remove_heads": 0.75, "remove_neurons": 0.9}


def main() -> int:
    """Run the recipes, print their claims and record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--home", type=Path, default=None)
    options = parser.parse_args()
    names = options.names or list(RECIPES)
    rows = [row for row in earlier() if row["recipe"] not in names]
    with tempfile.TemporaryDirectory(prefix="rarefy-tasks-") as temporary:
        home = options.home or Path(temporary)
        for name in names:
            row = measured(name, home)
            rows.append(row)
            print(json.dumps(row, ensure_ascii=False), file=sys.stderr)
    rows.sort(key=lambda row: RECIPES.index(row["recipe"]))
    results: list[Claim] = []
    for row in rows:
        results += claims(row)
    return finish("tasks", rows, results, SEED)


def earlier() -> list[dict[str, Any]]:
    """Return the rows of the record, each with the commit that it was measured at."""
    if not RESULTS.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"]
    return rows


def measured(name: str, home: Path) -> dict[str, Any]:
    """Run a recipe and its wrong variant, and return what was measured."""
    from rarefy.pipeline.measure.measurements import CANDIDATE
    from rarefy.pipeline.report import facts
    from rarefy.pipeline.run.folder import read

    _, output = run(ROOT / f"examples/{name}.yaml", home)
    minutes = sum(row["seconds"] for row in output["ledger"]) / 60  # of cached stages too
    report = read(home / "runs" / name)
    measurements = report.measurements
    reference = facts.reference(report)
    assert measurements is not None
    assert reference is not None
    target = next(iter(measurements.latency))
    speedup = facts.speedup(report, target)
    retained = facts.retained(report)
    assert speedup is not None
    assert retained is not None
    metric = measurements.main
    student_size = measurements.models[CANDIDATE].size
    teacher_size = measurements.models[reference].size
    wrong_code, wrong_metrics = run_wrong(name, home)
    return {
        "recipe": name,
        **here(),
        "task": measurements.task,
        "metric": metric,
        "eval": len(measurements.truth),
        "teacher": measurements.score(metric, reference)._asdict(),
        "student": measurements.score(metric, CANDIDATE)._asdict(),
        "retained": retained._asdict(),
        "speedup": speedup._asdict(),
        "smaller": teacher_size / student_size,
        "size": student_size,
        "outcome": output["outcome"],
        "minutes": round(minutes, 1),
        "wrong_exit_code": wrong_code,
        "wrong_failed": wrong_metrics,
    }


def run(recipe: Path, home: Path) -> tuple[int, dict[str, Any]]:
    """Run a recipe; return its exit code and its output as JSON."""
    rarefy = str(Path(sys.executable).with_name("rarefy"))
    command = [rarefy, "run", str(recipe), "--engine", "inline", "--json"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAREFY_HOME": str(home)}
    process = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if not process.stdout:
        raise SystemExit(f"{recipe}: no verdict (exit code {process.returncode})")
    return process.returncode, json.loads(process.stdout)


def run_wrong(name: str, home: Path) -> tuple[int, list[str]]:
    """Run a recipe with a wrong student; return its exit code and the metrics that failed."""
    recipe = yaml.safe_load((ROOT / f"examples/{name}.yaml").read_text())
    recipe["name"] = f"{name}-wrong"
    spoil(recipe["stages"])
    path = ROOT / f"examples/{name}-wrong.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    try:
        code, output = run(path, home)
    finally:
        path.unlink()
    missed = [budget["metric"] for budget in output["budgets"] if budget["outcome"] == "fail"]
    return code, missed


def spoil(stages: list[Any]) -> None:
    """Let a recipe's student hardly learn; without one, let it prune too far and not recover."""
    with_parameters = [stage for stage in stages if isinstance(stage, dict)]
    distilled = any("distill" in stage for stage in with_parameters)
    for stage in with_parameters:
        if "distill" in stage:
            stage["distill"] |= UNTRAINED
        prune = stage.get("prune", {})
        if "recover_epochs" not in prune:
            continue
        del prune["recover_epochs"]
        prune.pop("learning_rate", None)
        if not distilled:
            prune |= TOO_FAR


def claims(row: dict[str, Any]) -> list[Claim]:
    """Return what one recipe must show."""
    name = row["recipe"]
    metric = row["metric"]
    share = RETAINED[name]
    retained = row["retained"]
    speedup = row["speedup"]
    return [
        Claim(
            f"{name} ({row['task']}): the verdict passes",
            "pass",
            f"{row['outcome']}; {row['minutes']} minutes in the stages",
            row["outcome"] == "pass",
        ),
        Claim(
            f"{name}: share of the teacher's {metric} retained, with its 95 % interval",
            f"at least {share:.0%}",
            f"{retained['value']:.1%} [{retained['low']:.1%}, {retained['high']:.1%}]; teacher "
            f"{row['teacher']['value']:.3f}",
            is_at_least(Interval(**retained), share),
        ),
        Claim(
            f"{name}: faster than the teacher in fused fp32 ONNX Runtime, one thread",
            f"at least {SPEED:g}x (median)",
            f"{speedup['value']:.2f}x [{speedup['low']:.2f}, {speedup['high']:.2f}]",
            is_at_least(Interval(**speedup), SPEED),
        ),
        Claim(
            f"{name}: smaller than the teacher's bundle",
            f"at least {SIZE:g}x",
            f"{row['smaller']:.2f}x",
            row["smaller"] >= SIZE,
        ),
        Claim(
            f"{name}: a student that was not trained, or pruned too far, fails",
            f"exit code 3, {metric} missed",
            f"exit code {row['wrong_exit_code']}, missed: {', '.join(row['wrong_failed'])}",
            row["wrong_exit_code"] == 3 and metric in row["wrong_failed"],
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
