"""A project with a tiny model, a few sentences, and stages that take no time."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.models import sentences, write_encoder
from tests.templates import make_once

JUDGE = '''

class Judge(Stage):
    """Write measurements in which every answer is right and the bundle has a given size."""

    name: ClassVar[str] = "judge"
    consumes: ClassVar = frozenset({Kind.BUNDLE, Kind.CHECKPOINT})
    produces: ClassVar = Kind.REPORT
    reads: ClassVar = frozenset({"eval"})
    size: int = 1000

    def run(self, context, model):
        from rarefy.pipeline.measure.predictions import files
        from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement

        truth = context.split("eval").labels
        answers = [[0.1, 0.9] if label else [0.9, 0.1] for label in truth]
        found = ModelMeasurement(digest=model.digest, size=self.size, answers=answers)
        measured = Measurements(
            machine={},
            task=context.task.name,
            labels=list(context.task.labels),
            truth=truth,
            models={"candidate": found},
            latency={},
        )
        files.save(measured, context.output)
        return Draft()
'''
STAGES = (
    '''
from typing import ClassVar

from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.stage import Draft, Policy, Stage


class Head(Stage):
    """Add a new head, and train it for a moment; ``one_label``: as if all rows had the first."""

    name: ClassVar[str] = "head"
    consumes: ClassVar = frozenset({Kind.ENCODER})
    scale: float = 1.0
    note: str | None = None
    one_label: bool = False

    def run(self, context, model):
        import torch

        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.training import run as training

        training.prepare(context)
        network = context.task.head.load(str(model.directory))
        tokenizer = checkpoint.load_tokenizer(model.directory)
        train = context.split("train")
        labels = list(train.labels)
        if self.one_label:
            labels = [0] * len(labels)
        batch = tokenizer(list(train.texts), padding=True, return_tensors="pt")
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        for _ in range(30):
            loss = network(**batch, labels=torch.tensor(labels)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        roles = checkpoint.save(network, tokenizer, context.output)
        context.progress(1, 1, "done")
        return Draft(roles, checkpoint.describe(network))


class Break(Stage):
    """Fail with an error of the model."""

    name: ClassVar[str] = "break"

    def run(self, context, model):
        raise ModelError("the weights are made of cheese")
'''
    + JUDGE
)


@dataclass(frozen=True)
class Project:
    """A folder with a model, data, and a home; ``recipe`` writes recipes into it."""

    folder: Path
    home: Path

    def recipe(self, *stages: str, budgets: str = "", name: str = "tiny") -> Path:
        path = self.folder / f"{name}.yaml"
        lines = "\n".join(f"  - {stage}" for stage in stages)
        path.write_text(
            textwrap.dedent(f"""\
            # A tiny recipe.
            name: {name}
            model: encoder
            data: {{train: train.jsonl, eval: eval.jsonl}}
            stages:
            """)
            + f"{lines}\n{budgets}"
        )
        return path


def write_rows(path: Path, count: int, seed: int) -> None:
    texts, labels = sentences(count, seed)
    names = ("negative", "positive")
    rows = [{"text": t, "label": names[label]} for t, label in zip(texts, labels, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def own_environment() -> Iterator[None]:
    """Isolate what commands set for the process, variables and threads, from other tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    if torch := sys.modules.get("torch"):  # its sums are rounded otherwise with more threads
        torch.set_num_threads(int(before.get("OMP_NUM_THREADS", "1")))


def make_project(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """Write model, data and stages into a folder, and make the stages importable."""
    write_project(folder)
    return open_project(folder, patch)


def write_project(folder: Path) -> None:
    """Write model, data and stages into a folder."""
    write_encoder(folder / "encoder", layers=2)
    write_rows(folder / "train.jsonl", 40, 0)
    write_rows(folder / "eval.jsonl", 20, 1)
    modules = folder / "modules"
    modules.mkdir()
    (modules / "quickstages.py").write_text(STAGES)


def open_project(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """Make a project the current home, and its stages importable."""
    modules = folder / "modules"
    patch.syspath_prepend(modules)
    patch.setenv("PYTHONPATH", str(modules))
    patch.setenv("RAREFY_HOME", str(folder / "home"))
    sys.modules.pop("quickstages", None)
    return Project(folder, folder / "home")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project that has run nothing, to be copied."""
    return make_once(tmp_path_factory, "untrained", write_project)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project whose model has been imported and trained, to be copied."""
    return make_once(tmp_path_factory, "trained", train)


def train(folder: Path) -> None:
    """Write a project into a folder, import its model and train it."""
    from rarefy.pipeline.recipe import recipe as recipes
    from rarefy.pipeline.run.engine import Run
    from rarefy.pipeline.run.plan.plan import Plan
    from rarefy.pipeline.store.store import Store

    with pytest.MonkeyPatch.context() as patch:
        project = make_project(folder, patch)
        recipe = project.recipe("quickstages:Head")
        run = Run(Plan(recipes.load(recipe), Store(project.home / "store"), threads=1))
        run.plan.steps()
        for step in (recipes.MODEL, "head"):
            run.execute(step)
        run.lease.close()
        recipe.unlink()


@pytest.fixture
def project(untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that has run nothing."""
    shutil.copytree(untrained, tmp_path, dirs_exist_ok=True)
    return open_project(tmp_path, monkeypatch)


@pytest.fixture
def trained_project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that has run nothing, in whose store the work of ``quickstages:Head`` is found."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return open_project(tmp_path, monkeypatch)


BUDGETS = (
    "budgets:\n"
    "  - {metric: accuracy, max_drop: 40 points, against: head}\n"
    "  - {metric: parameters, max: 1000000}\n"
)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose recipe has run once and made a bundle and a report; this worker's copy."""
    folder = tmp_path_factory.mktemp("made")
    template = make_once(tmp_path_factory, "made", run_once)
    shutil.copytree(template, folder, dirs_exist_ok=True)
    project = Project(folder, folder / "home")
    for path in (project.home / "runs" / "tiny").glob("*.*"):
        if path.suffix in (".json", ".html", ".md"):  # where the recipe and the report are
            path.write_text(path.read_text().replace(str(template), str(folder)))
    return project


def run_once(folder: Path) -> None:
    """Write a project into a folder, and run its recipe."""
    from rarefy.flows.run import job as jobs
    from rarefy.pipeline.recipe import recipe as recipes

    with pytest.MonkeyPatch.context() as patch:
        project = make_project(folder, patch)
        validate = (
            "validate: {processes: 2, seconds: 1, memory: false, cold_starts: 0, "
            "fastest_float: false}"
        )
        recipe = project.recipe("quickstages:Head", "export", validate, budgets=BUDGETS)
        job = jobs.Job(
            recipe=str(recipe),
            home=str(project.home),
            out=str(project.home / "runs" / "tiny"),
            device="cpu",
            threads=1,
            command=f"rarefy run {recipe}",
        )
        jobs.run_inline(job, recipes.load(recipe))


@pytest.fixture
def here(made: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project that has run, as the current home; a test may add to it, but change nothing."""
    monkeypatch.syspath_prepend(made.folder / "modules")
    monkeypatch.setenv("RAREFY_HOME", str(made.home))
    monkeypatch.setenv("PYTHONPATH", str(made.folder / "modules"))
    before = _known(made)
    yield made
    after = _known(made)
    assert {path: after.get(path) for path in before} == before, "other tests share this home"


def _known(project: Project) -> dict[Path, bytes]:
    """Return which artifacts the project's steps have, and the record of its run."""
    index = (project.home / "store" / "fingerprints").glob("*.json")
    record = project.home / "runs" / "tiny" / "run.json"
    return {path: path.read_bytes() for path in (*index, record)}


def bundle_digest(project: Project) -> str:
    """Return the digest of the bundle that the project's run made."""
    from rarefy.pipeline.store.artifact import Manifest

    manifest = project.home / "runs" / "tiny" / "bundle" / "manifest.json"
    return Manifest.model_validate_json(manifest.read_bytes()).digest


@dataclass(frozen=True)
class Said:
    """A command's exit code and its output on stdout and stderr; ``json`` is its parsed stdout."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def rarefy(capsys: pytest.CaptureFixture[str], own_environment: None) -> Callable[..., Said]:
    """Run the command line in this process, as the console script does."""
    from rarefy.flows.cli import main

    def call(*arguments: str | Path) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        code = ended.value.code
        return Said(int(code or 0), written.out, written.err)

    return call
