"""The references of a bundle that is measured again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.store.garbage import Collector
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import ModelError
from tests.pipeline.run.chains import flip
from tests.project import Project, Said, bundle_digest


def test_validate_needs_the_references(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    bundle = shutil.copytree(here.home / "runs" / "tiny" / "bundle", tmp_path / "elsewhere")
    arguments = ("validate", bundle, "--recipe", here.folder / "tiny.yaml")
    said = rarefy(*arguments, "--home", tmp_path / "empty")
    assert said.code == 4
    assert "'head', but this store has no such checkpoint" in said.err


def test_gc_leaves_a_bundle_alone_while_it_is_measured(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(here.home, tmp_path / "home")
    store = Home(home).store()
    bundle, recipe, found = bundle_digest(here), here.folder / "tiny.yaml", []

    def measuring(*_anything: object) -> None:
        found.append({garbage.path.name for garbage in Collector(store, days=-1).find()})
        raise ModelError("enough")

    monkeypatch.setattr("rarefy.stages.validate.stage.Validate.run", measuring)
    assert "enough" in rarefy("validate", bundle, "--recipe", recipe, "--home", home).err
    (garbage,) = found
    assert garbage
    assert bundle not in garbage


def test_a_damaged_reference_is_not_measured(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    home = shutil.copytree(here.home, tmp_path / "home")
    store = Home(home).store()
    (head,) = (a for a in map(store.open, store.digests()) if a.kind is Kind.CHECKPOINT)
    weights = head.path("model.safetensors")
    flip(weights, weights.read_bytes()[-64:], bytes(64))
    said = rarefy("validate", "tiny", "--home", home)
    assert said.code == 6
    assert f"artifact {head.short} (head) is damaged: model.safetensors" in said.err


def test_a_seed_of_its_own_is_drawn_from_again(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (here.folder / "tiny.yaml").read_text()
    recipe = here.folder / "seeded.yaml"
    recipe.write_text(text.replace("validate: {", "seed: 5\n    validate: {"))
    seeds = []

    def measuring(_stage: object, context: Context, _model: object) -> None:
        seeds.append(context.seed)
        raise ModelError("enough")

    monkeypatch.setattr("rarefy.stages.validate.stage.Validate.run", measuring)
    rarefy("validate", "tiny", "--recipe", recipe, "--home", here.home)
    assert seeds == [5]
