"""Two teams add tasks to a base of the store; each has a verdict and a release of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.digests import file_sha256
from tests.conftest import QUICK, Workshop, labelled_rows
from tests.project import Said
from tests.tagged import DATA, tagged_rows

PAGE = Path(__file__).parents[2] / "docs/how-to/adapters.md"
TRAIN = {"epochs": 3, "learning_rate": 5e-3, "batch_size": 8}
WORDS = {
    "task": "token-classification",
    "data": {**DATA, "train": "words.jsonl", "eval": "words.jsonl"},
}


@dataclass(frozen=True)
class Teams:
    """Teams that share a store."""

    workshop: Workshop
    rarefy: Callable[..., Said]

    @property
    def store(self) -> Store:
        return Store(self.workshop.folder / "home" / "store")

    def run(self, *stages: Any, **changes: Any) -> dict[str, Any]:
        """Run a recipe, which must meet its budgets; return its output."""
        recipe = self.workshop.recipe(*stages, **changes)
        said = self.rarefy("run", recipe, "--engine", "inline", "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    def add(self, name: str, metric: str, rank: int, **changes: Any) -> dict[str, Any]:
        """Add a task to the base, compared with its own teacher."""
        return self.run(
            {"finetune": TRAIN},
            {"adapt": {**TRAIN, "rank": rank}, "from": "model"},
            "export",
            {"validate": {**QUICK, "models": ["finetune"]}},
            name=name,
            model="tag:base",
            budgets=[{"metric": metric, "min_retained": "10 %", "against": "finetune"}],
            **changes,
        )

    def promote(self, name: str) -> str:
        """Promote a task's run to a tag of its own; return the digest of its bundle."""
        said = self.rarefy("promote", name, f"{name}-production", "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)["digest"]


@pytest.fixture
def teams(
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    rarefy: Callable[..., Said],
    known_times: None,
) -> Teams:
    monkeypatch.setenv("RAREFY_HOME", str(workshop.folder / "home"))
    workshop.write_rows("train.jsonl", labelled_rows(128, seed=0))
    workshop.write_rows("eval.jsonl", labelled_rows(64, seed=1))
    workshop.write_rows("words.jsonl", tagged_rows(96))
    return Teams(workshop, rarefy)


def digests(output: dict[str, Any]) -> dict[str, str]:
    return {row["id"]: row["digest"] for row in output["ledger"]}


@pytest.mark.slow
def test_tasks_are_added_to_a_base_and_released_and_rolled_back_alone(teams: Teams) -> None:
    base = teams.run({"finetune": TRAIN}, {"quantize": {"sensitivity": False}}, name="base")
    assert teams.rarefy("artifact", "tag", "base", digests(base)["quantize"]).code == 0
    teams.add("texts", "accuracy", rank=2)
    texts = teams.promote("texts")
    words = teams.add("words", "entity_f1", rank=2, **WORDS)
    first = teams.promote("words")
    assert first == digests(words)["export"]
    folder = teams.store.root / "artifacts/sha256"
    assert file_sha256(folder / texts / "model.onnx") == file_sha256(folder / first / "model.onnx")
    teams.add("words", "entity_f1", rank=4, **WORDS)
    second = teams.promote("words")
    assert file_sha256(folder / second / "model.onnx") == file_sha256(folder / first / "model.onnx")
    assert teams.rarefy("rollback", "words-production").code == 0
    tags = teams.store.tags()
    assert (tags["words-production"], tags["texts-production"]) == (first, texts)
    assert tags["base"] == digests(base)["quantize"]


@pytest.mark.slow
def test_the_recipe_of_the_page_makes_an_adapter_beside_its_base(teams: Teams) -> None:
    shown = re.search(r"^```yaml\n# reviews.yaml\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert shown is not None
    recipe = yaml.safe_load(shown[1]) | {"model": "model"}
    *stages, validate = recipe.pop("stages")
    validate["validate"] |= QUICK | {"memory": True}
    recipe["budgets"] = [{"metric": "accuracy", "min": "1 %"}]
    output = teams.run(*stages, validate, **recipe)
    bundle = teams.store.root / "artifacts/sha256" / digests(output)["export"]
    assert (bundle / "adapter.onnx_adapter").is_file()
    report = teams.store.open(digests(output)["validate"])
    numbers = {metric.name: metric.value for metric in report.manifest.metrics}
    assert 0 < numbers["adapter_memory"] < numbers["memory"]
