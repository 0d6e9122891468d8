"""Write what later versions must still read: for each release, from its commit.

``python -m tests.previous.make`` runs a tiny recipe (random weights, twenty sentences), promotes
its bundle, and puts what a user would keep of it in place of the files here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from rarefy.flows.run import job as jobs
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.release import promotion
from rarefy.pipeline.run import names
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.verdict import history
from tests.flows.runs import job
from tests.models import write_encoder
from tests.project import BUDGETS, Project, make_project

HERE = Path(__file__).parent
VALIDATE = "validate: {processes: 2, seconds: 1, rows: 20, memory: false, cold_starts: 0}"


def run(project: Project) -> Home:
    """Run the recipe and promote its bundle; return the project's home."""
    write_encoder(project.folder / "encoder", layers=1, hidden=16)
    recipe = project.recipe("quickstages:Head", "export", VALIDATE, budgets=BUDGETS)
    jobs.run_inline(job(project, recipe), recipes.load(recipe))
    home = Home(project.home)
    promotion.promote("tiny", "production", home)
    return home


def keep(project: Project, home: Home) -> None:
    """Copy the bundle, the report, and all that refers to them."""
    shutil.rmtree(HERE / "home", ignore_errors=True)
    for name in ("eval.jsonl", "tiny.yaml"):
        shutil.copyfile(project.folder / name, HERE / name)
    store = home.store()
    digests = {
        digest
        for digest in store.digests()
        if store.open(digest).kind in (Kind.BUNDLE, Kind.REPORT)
    }
    made = [
        path
        for path in (store.root / "fingerprints").glob("*.json")
        if json.loads(path.read_text())["digest"] in digests
    ]
    run = home.runs / "tiny"
    files = [run / name for name in (names.RECORD, names.ANSWERS, names.VERDICT)]
    files += [home.path / history.FILE, store.root / "store.json", *made]
    files += (store.root / "tags").glob("*.json")
    for digest in digests:
        files += filter(Path.is_file, store.open(digest).directory.rglob("*"))
    for path in files:
        copy = HERE / "home" / path.relative_to(home.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        project = make_project(Path(folder), patch)
        keep(project, run(project))


if __name__ == "__main__":
    main()
