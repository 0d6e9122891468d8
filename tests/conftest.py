"""A workshop: a folder with a tiny model, a few sentences, quick stages and its own store."""

from __future__ import annotations

import compileall
import gc
import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe.recipe import MODEL
from rarefy.pipeline.run.engine import Finished, Run
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.store import Store
from tests.desk import desk
from tests.known_times import known_times
from tests.models import LABELS, make_context, sentences, tiny_encoder, write_encoder
from tests.network import loopback_only
from tests.prefect_home import prefect_home
from tests.project import (
    here,
    made,
    own_environment,
    project,
    rarefy,
    trained,
    trained_project,
    untrained,
)
from tests.quiet import quiet_machine
from tests.registry import registry
from tests.templates import make_once
from tests.tracing import trace_always, trace_once

__all__ = [
    "desk",
    "here",
    "known_times",
    "loopback_only",
    "made",
    "make_context",
    "own_environment",
    "prefect_home",
    "project",
    "quiet_machine",
    "rarefy",
    "registry",
    "tiny_encoder",
    "trace_always",
    "trace_once",
    "trained",
    "trained_project",
    "untrained",
]
"""Fixtures defined in other modules and found here."""

# Prefect and PyTorch read their settings when they are imported, which may be before a command sets
# them. Without the second one, the threads of each worker spin while they wait, and take the cores
# from the other workers: a training of a second then costs twenty.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark end-to-end tests slow; skip tests that need a CUDA device if there is none.

    Files with slow tests come first, so that no worker is left with one of them at the end.
    """
    for item in items:
        if "end_to_end" in item.path.parts:
            item.add_marker("slow")
        if "gpu" in item.keywords and not Path("/dev/nvidiactl").exists():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; this machine has none"))
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the bytecode of the package, even if PYTHONDONTWRITEBYTECODE is set.

    Hundreds of processes of the tests import it, and each would compile it again.
    """
    if not hasattr(config, "workerinput"):
        for folder in ("flows", "stages", "exporters", "pipeline"):
            compileall.compile_dir(ROOT / folder, quiet=2)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the bytecode of what is collected, even if PYTHONDONTWRITEBYTECODE is set.

    Each worker would compile all tests again, which takes half of its collection.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = before


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> None:
    """Take what is loaded out of the garbage collector's sight.

    Each training ends with a collection, which looks at every object of PyTorch's modules.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def versions_read_once() -> Iterator[None]:
    """Read a library's metadata once for each search path: every plan asks for sixty versions."""
    read = importlib.metadata.version
    read_once = cache(lambda name, _path: read(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: read_once(name, (*sys.path,)))
        yield


ROOT = Path(__file__).parents[1]
QUICK_STAGES = Path(__file__).parent / "quick_stages.py"
QUICK: dict[str, Any] = {
    "processes": 2,
    "seconds": 1,
    "memory": False,
    "cold_starts": 0,
    "fastest_float": False,
}
"""Parameters with which ``validate`` measures little, and only scores, sizes and times."""
VALIDATE: dict[str, Any] = {"validate": {"models": ["finetune"], **QUICK}}
"""A short ``validate`` beside the finetuned model alone."""


@dataclass(frozen=True)
class Workshop:
    """Write recipes into a folder and run them, each time as a new process would."""

    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def write_rows(self, name: str, rows: list[dict[str, Any]]) -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def recipe(self, *stages: Any, **changes: Any) -> Path:
        """Write a recipe of these stages; ``changes`` replace its other keys."""
        values: dict[str, Any] = {
            "name": "trial",
            "model": "model",
            "data": {"train": "train.jsonl", "eval": "eval.jsonl"},
            "stages": list(stages),
        }
        path = self.folder / "trial.yaml"
        path.write_text(yaml.safe_dump(values | changes, sort_keys=False))
        return path

    def open(self, *stages: Any, **changes: Any) -> Run:
        return Run(Plan(recipes.load(self.recipe(*stages, **changes)), self.store, threads=1))

    def run(self, *stages: Any, **changes: Any) -> dict[str, Finished]:
        """Plan and execute every step; return them by id."""
        return execute(self.open(*stages, **changes))

    def widen(self, hidden: int = 32) -> None:
        """Give the model more columns: a product of rank 16 is no smaller than a layer of 16."""
        shutil.rmtree(self.folder / "model")
        write_encoder(self.folder / "model", layers=2, hidden=hidden)

    def ran(self) -> list[str]:
        """Return the notes that the quick stages write each time they really run."""
        log = self.folder / "ran.log"
        return log.read_text().split() if log.exists() else []


def execute(run: Run) -> dict[str, Finished]:
    run.plan.steps()
    for identifier in (MODEL, *(step.id for step in run.plan.loaded.steps)):
        run.execute(identifier)
    return run.finished


def labelled_rows(count: int, seed: int) -> list[dict[str, Any]]:
    texts, labels = sentences(count, seed)
    return [{"text": t, "label": LABELS[y]} for t, y in zip(texts, labels, strict=True)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT body (2 layers × 16) with a WordPiece tokenizer."""
    return make_once(
        tmp_path_factory, "tiny", lambda folder: write_encoder(folder, layers=2, hidden=16)
    )


@pytest.fixture
def empty_workshop(tmp_path: Path, tiny_model: Path) -> Workshop:
    """A workshop with data, a model and the stage module ``quick``, and nothing in its store."""
    return _make_workshop(tmp_path, tiny_model)


@pytest.fixture
def workshop(empty_workshop: Workshop) -> Workshop:
    """An empty workshop, where a folder's ``conftest`` does not say otherwise."""
    return empty_workshop


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The folder of a workshop whose model has been imported, to be copied."""

    def furnish(folder: Path) -> None:
        run = _make_workshop(folder, tiny_model).open("quick:Word")
        run.execute(MODEL)
        run.lease.close()

    return make_once(tmp_path_factory, "furnished", furnish)


@pytest.fixture
def furnished_workshop(tmp_path: Path, furnished: Path) -> Workshop:
    """A workshop in whose store the model is already."""
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    return Workshop(tmp_path)


def _make_workshop(folder: Path, model: Path) -> Workshop:
    shutil.copytree(model, folder / "model")
    shutil.copyfile(QUICK_STAGES, folder / "quick.py")
    workshop = Workshop(folder)
    workshop.write_rows("train.jsonl", labelled_rows(24, seed=0))
    workshop.write_rows("eval.jsonl", labelled_rows(12, seed=1))
    return workshop
