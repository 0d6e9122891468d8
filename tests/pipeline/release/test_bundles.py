"""Name a bundle in any way to query, measure, compare or report on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.pipeline.release import bundles
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.digests import canonical_json
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError
from tests.desk import Desk
from tests.project import Project, Said, bundle_digest


def test_every_name_of_a_bundle_gives_the_same_answer(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    digest = bundle_digest(here)
    rarefy("artifact", "tag", "shelf", digest)
    folder = here.home / "runs" / "tiny"
    names = ("tiny", folder, folder / "bundle", "shelf", digest, digest[:10])
    answers = {rarefy("predict", name, "a fine film", "--json").out for name in names}
    Store(here.home / "store").untag("shelf")  # other tests use this project too
    assert len(answers) == 1
    answer = json.loads(answers.pop())
    assert answer["text"] == "a fine film"
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_what_is_no_bundle_is_said(here: Project, rarefy: Callable[..., Said]) -> None:
    rows = json.loads(rarefy("artifact", "ls", "--kind", "checkpoint", "--json").out)
    said = rarefy("predict", rows[0]["digest"], "text")
    assert (said.code, said.out) == (2, "")
    assert "this is the checkpoint that 'head' made, not a bundle" in said.err
    empty = rarefy("predict", here.folder / "encoder", "text")
    assert empty.code == 2
    assert "it has no model.onnx" in empty.err


def test_a_run_goes_before_a_folder_of_its_name(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, home = here.home / "runs" / "tiny", Home(here.home)
    shutil.copytree(run, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    for name, folder in {"tiny": run, "./tiny": Path("tiny"), "tiny/": Path("tiny")}.items():
        assert bundles.find(name, home).directory == folder / "bundle"
        assert rarefy("report", name).out == f"{folder / 'report.html'}\n"
    assert bundles.named(Path("tiny")) == "./tiny"
    assert bundles.named(run) == str(run)
    assert bundles.named("tiny") == "tiny"


def test_a_folder_is_not_taken_for_a_run_of_its_name_that_has_no_bundle(
    here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    (home.runs / "tiny").mkdir(parents=True)
    shutil.copytree(here.home / "runs" / "tiny", tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert bundles.find("tiny", home).directory == Path("tiny/bundle")
    (home.runs / "tiny" / "run.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"the run of this name has no bundle; write ./tiny"):
        bundles.find("tiny", home)
    assert bundles.find("./tiny", home).directory == Path("tiny/bundle")


def test_a_wrong_name_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^tniy: no such bundle"):
        bundles.find("tniy", Home(tmp_path / "home"))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_name_is_answered_with_the_run_of_a_similar_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (home.runs / "tiny").mkdir(parents=True)
    with pytest.raises(RecipeError, match=r"no such bundle: .*, did you mean 'tiny'\?$"):
        bundles.find("tniy", home)


def test_a_folder_that_is_no_bundle_hides_no_tag(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rarefy("artifact", "tag", "hidden", bundle_digest(here))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hidden").mkdir()
    said = rarefy("predict", "hidden", "a fine film", "--json")
    Store(here.home / "store").untag("hidden")  # other tests use this project too
    assert said.code == 0, said.err
    assert "hidden: this folder is not a bundle" in rarefy("predict", "hidden", "text").err


def test_a_manifest_that_the_run_s_verdict_is_not_on_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, home = desk.run / "bundle", Home(desk.home)
    manifest = bundle / "manifest.json"
    values = json.loads(manifest.read_text())
    values["model"]["parameters"] += 1
    manifest.write_bytes(canonical_json(values))
    message = f"the verdict of this run is on bundle {desk.digest[:12]}, not on this one"
    monkeypatch.chdir(bundle)
    for name in ("tiny", str(desk.run), str(bundle), "."):
        with pytest.raises(IntegrityError, match=message):
            bundles.find(name, home)
    said = desk.rarefy("compare", "tiny", desk.digest)
    assert said.code == 6
    assert said.err.count("\n") == 1
    manifest.unlink()
    with pytest.raises(IntegrityError, match=message):
        bundles.find("tiny", home)
    (desk.run / "verdict.json").unlink()  # as while a run replaces its folder
    assert bundles.find("tiny", home).manifest is None


def test_a_run_s_verdict_that_is_damaged_is_said(desk: Desk) -> None:
    (desk.run / "verdict.json").write_text('{"bundle": 1}')
    with pytest.raises(
        IntegrityError, match=r"verdict\.json: the file is damaged .*run the recipe"
    ):
        bundles.find("tiny", Home(desk.home))
