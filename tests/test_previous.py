"""Recipes, artifacts, verdicts and histories of the last release can still be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import rarefy
from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.recipe.recipe import Recipe
from rarefy.pipeline.release import promotion
from rarefy.pipeline.report import html
from rarefy.pipeline.run import folder
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.verdict import history

PREVIOUS = Path(__file__).parent / "previous"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    shutil.copytree(PREVIOUS / "home", tmp_path / "home")
    return Home(tmp_path / "home")


def test_its_recipe_means_the_same():
    found = Recipe.model_validate(yaml_file.read(PREVIOUS / "tiny.yaml").values)
    assert [budget.form for budget in found.budgets] == ["max_drop", "max"]
    assert [budget.limit for budget in found.budgets] == [0.4, 1_000_000]


def test_its_artifacts_are_whole_and_keep_their_digests(home):
    store = home.store()
    assert sorted(store.open(digest).kind for digest in store.digests()) == ["bundle", "report"]
    assert [store.verify(digest) for digest in store.digests()] == [[], []]
    tag = store.find_tag("production")
    assert [move.why for move in tag.moves] == ["promote"]
    fingerprints = [path.stem for path in (store.root / "fingerprints").glob("*.json")]
    found = [store.lookup(fingerprint) for fingerprint in fingerprints]
    assert {artifact.kind for artifact in found if artifact} == {Kind.BUNDLE, Kind.REPORT}


def test_its_bundle_answers_as_it_did(home):
    model = rarefy.Bundle("production", home=home.path)
    samples = model.files.directory / "samples"
    request = json.loads((samples / "request.json").read_text())
    then = json.loads((samples / "response.json").read_text())["predictions"]
    now = model.predict(request["texts"], batch_size=1)
    assert [answer.label for answer in now] == [answer["label"] for answer in then]
    for answer, before in zip(now, then, strict=True):
        given = [answer.probabilities[label] for label in before["probabilities"]]
        # Kernels of another CPU round int8 differently, in the third digit.
        np.testing.assert_allclose(given, list(before["probabilities"].values()), atol=5e-3)


def test_its_run_is_drawn_and_can_be_promoted(home):
    record = folder.read(home.runs / "tiny")
    assert record.verdict.outcome == "pass"
    assert "tiny" in html.render(record)
    verdict = rarefy.Verdict.model_validate_json((home.runs / "tiny" / "verdict.json").read_text())
    assert verdict == record.verdict
    assert promotion.promote("production", "next", home).moved


def test_its_history_goes_on(home):
    past = history.History(home.path / history.FILE)
    (verdict,) = past.verdicts("tiny")
    record = folder.read(home.runs / "tiny")
    assert (verdict.standing, verdict.measured) == ("pass", record.measured_at)
    assert verdict.machine.facts["cores"] == record.machine["cores"]
    assert past.add(record) is False, "it is there already"
