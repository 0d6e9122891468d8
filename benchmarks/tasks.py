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

from benchmarks.record import Claim, finish, here

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "tasks.json"
SEED = 0
RECIPES = ("concepts", "ratings", "rerank", "addresses", "parts-of-speech", "search")
KEPT = {"search": 0.95}
"""The share of the teacher's main score that must be kept, if it is not 97 %."""
SPEED, SIZE = 5.0, 4.0
UNTRAINED = {"epochs": 1, "learning_rate": 1e-9}
TOO_FAR = {"heads": 0.75, "neurons": 0.9}


def main() -> int:
    """Run the recipes, print their claims and record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--home", type=Path, default=None)
    given = parser.parse_args()
    chosen = given.names or list(RECIPES)
    rows = [row for row in earlier() if row["recipe"] not in chosen]
    with tempfile.TemporaryDirectory(prefix="rarefy-tasks-") as temporary:
        home = given.home or Path(temporary)
        for name in chosen:
            rows.append(measured(name, home))
            print(json.dumps(rows[-1], ensure_ascii=False), file=sys.stderr)
    rows.sort(key=lambda row: RECIPES.index(row["recipe"]))
    return finish("tasks", rows, [claim for row in rows for claim in claims(row)], SEED)


def earlier() -> list[dict[str, Any]]:
    """Return the rows of the record, each with the commit that it was measured at."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    return rows


def measured(name: str, home: Path) -> dict[str, Any]:
    """Run a recipe and its wrong variant, and return what was measured."""
    from rarefy.pipeline.measure.measurements import CANDIDATE
    from rarefy.pipeline.report import facts
    from rarefy.pipeline.run.folder import read

    _, output = run(ROOT / f"examples/{name}.yaml", home)
    minutes = sum(row["seconds"] for row in output["ledger"]) / 60  # of cached stages too
    data = read(home / "runs" / name)
    found, reference = data.measurements, facts.reference(data)
    assert found is not None
    assert reference is not None
    fast, kept = facts.speedup(data, next(iter(found.latency))), facts.retained(data)
    wrong_code, wrong = spoiled(name, home)
    return {
        "recipe": name,
        **here(),
        "task": found.task,
        "metric": found.main,
        "eval": len(found.truth),
        "teacher": found.score(found.main, reference)._asdict(),
        "student": found.score(found.main, CANDIDATE)._asdict(),
        "retained": kept._asdict() if kept else None,
        "speedup": fast._asdict() if fast else None,
        "smaller": found.models[reference].size / found.models[CANDIDATE].size,
        "size": found.models[CANDIDATE].size,
        "outcome": output["outcome"],
        "minutes": round(minutes, 1),
        "wrong_exit_code": wrong_code,
        "wrong_failed": wrong,
    }


def run(recipe: Path, home: Path) -> tuple[int, dict[str, Any]]:
    """Run a recipe; return its exit code and its output as JSON."""
    command = [Path(sys.executable).with_name("rarefy"), "run", recipe, "--engine", "inline"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAREFY_HOME": str(home)}
    done = subprocess.run(
        [*command, "--json"], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if not done.stdout:
        raise SystemExit(f"{recipe}: no verdict (exit code {done.returncode})")
    return done.returncode, json.loads(done.stdout)


def spoiled(name: str, home: Path) -> tuple[int, list[str]]:
    """Run a recipe with a wrong student; return its exit code and the metrics that failed."""
    values = yaml.safe_load((ROOT / f"examples/{name}.yaml").read_text())
    values["name"] = f"{name}-wrong"
    stages = [stage for stage in values["stages"] if isinstance(stage, dict)]
    distilled = any("distill" in stage for stage in stages)
    for stage in stages:
        if "distill" in stage:
            stage["distill"] |= UNTRAINED
        if "recover_epochs" in stage.get("prune", {}):
            for key in ("recover_epochs", "learning_rate"):
                stage["prune"].pop(key, None)
            stage["prune"] |= {} if distilled else TOO_FAR
    path = ROOT / f"examples/{name}-wrong.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    try:
        code, output = run(path, home)
    finally:
        path.unlink()
    return code, [each["metric"] for each in output["budgets"] if each["outcome"] == "fail"]


def claims(row: dict[str, Any]) -> list[Claim]:
    """Return what one recipe must show."""
    name, metric, share = row["recipe"], row["metric"], KEPT.get(row["recipe"], 0.97)
    kept, fast = row["retained"], row["speedup"]
    return [
        Claim(
            f"{name} ({row['task']}): the verdict passes",
            "pass",
            f"{row['outcome']}; {row['minutes']} minutes in the stages",
            row["outcome"] == "pass",
        ),
        Claim(
            f"{name}: share of the teacher's {metric} kept, with its 95 % interval",
            f"at least {share:.0%}",
            f"{kept['value']:.1%} [{kept['low']:.1%}, {kept['high']:.1%}]; teacher "
            f"{row['teacher']['value']:.3f}",
            kept["value"] >= share,
        ),
        Claim(
            f"{name}: faster than the teacher in fused fp32 ONNX Runtime, one thread",
            f"at least {SPEED:g}x (median)",
            f"{fast['value']:.2f}x [{fast['low']:.2f}, {fast['high']:.2f}]",
            fast["value"] >= SPEED,
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
