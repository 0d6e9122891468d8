"""A model's releases on the command line: a first, a worse and a better one, and a rollback."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rarefy.pipeline.store.store import Store
from tests.conftest import QUICK, Workshop, labelled_rows
from tests.models import BAD, GOOD
from tests.project import Said

EARLY = "early.jsonl"
"""The rows that a team had first: half of the words that decide a label are in none of them."""
BUDGETS = [
    {"metric": "accuracy", "max_drop": "5 points", "against": "production"},
    {"metric": "size", "max_regression": "5 %", "against": "production"},
    {"metric": "size", "max": "1 MB"},
]


@dataclass(frozen=True)
class Releases:
    """A team's folder; the recipes of its candidates differ in training time."""

    workshop: Workshop
    rarefy: Callable[..., Said]

    def recipe(self, name: str, epochs: float, rate: float, train: str = "train.jsonl") -> Path:
        finetune = {"epochs": epochs, "learning_rate": rate, "batch_size": 8}
        stages = [{"finetune": finetune}, "export", {"validate": QUICK}]
        data = {"train": train, "eval": "eval.jsonl"}
        made = self.workshop.recipe(*stages, name=name, budgets=BUDGETS, data=data)
        return Path(shutil.move(made, made.with_name(f"{name}.yaml")))

    def run(self, recipe: Path, *options: str) -> Said:
        return self.rarefy("run", *options, recipe, "--engine", "inline", "--json")

    def production(self) -> str | None:
        tag = Store(self.workshop.folder / "home" / "store").find_tag("production")
        return tag.digest if tag else None

    def bytes(self, digest: str) -> dict[str, bytes]:
        """Return the bytes of all files of a bundle."""
        folder = self.workshop.folder / "home" / "store" / "artifacts" / "sha256" / digest
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def releases(
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    rarefy: Callable[..., Said],
    known_times: None,
) -> Releases:
    monkeypatch.setenv("RAREFY_HOME", str(workshop.folder / "home"))
    rows = labelled_rows(320, seed=0)
    workshop.write_rows("train.jsonl", rows)
    later = {*GOOD[3:], *BAD[3:]}
    workshop.write_rows(EARLY, [row for row in rows if later.isdisjoint(row["text"].split())])
    workshop.write_rows("eval.jsonl", labelled_rows(300, seed=1))
    return Releases(workshop, rarefy)


def accuracy(said: Said) -> float:
    """Return the accuracy of the trained model."""
    return next(row["accuracy"][0] for row in said.json["ledger"] if row["id"] == "finetune")


def test_promote_refuse_promote_and_roll_back(releases: Releases) -> None:
    rarefy = releases.rarefy
    question = ("predict", "production", "a very fine film and a dull story", "--json")

    # The first release has no baseline, which is an error without --first.
    recipe = releases.recipe("first", epochs=6, rate=5e-3, train=EARLY)
    refused = releases.run(recipe)
    assert refused.code == 2
    assert "first.yaml:" in refused.err
    assert "for a first release: `rarefy run --first`" in refused.err
    first = releases.run(recipe, "--first")
    assert first.code == 0, first.err
    assert [b["form"] for b in first.json["budgets"]] == ["max"]
    assert "the tag 'production' does not exist yet" in " ".join(first.json["warnings"])
    assert rarefy("promote", "first").code == 0
    one = releases.production()
    assert one is not None
    old_bytes, old_answer = releases.bytes(one), rarefy(*question).json

    # A barely trained candidate is measured beside it, fails, and cannot be promoted.
    worse = releases.run(releases.recipe("worse", epochs=1, rate=1e-7))
    assert worse.code == 3, worse.err
    assert accuracy(worse) < accuracy(first) - 0.1
    outcomes = {(b["metric"], b["form"]): b["outcome"] for b in worse.json["budgets"]}
    assert outcomes["accuracy", "max_drop"] == "fail"
    assert outcomes["size", "max_regression"] == "pass"
    told = rarefy("promote", "worse")
    assert told.code == 3
    assert told.err.startswith("missed: accuracy")
    assert releases.production() == one

    # A better one passes and replaces it.
    better = releases.run(releases.recipe("better", epochs=6, rate=5e-3))
    assert better.code == 0, better.err
    assert accuracy(better) > accuracy(first)
    assert rarefy("promote", "better").code == 0
    two = releases.production()
    assert two is not None
    assert two != one
    assert rarefy(*question).json != old_answer

    # The first passed too, but was not compared with production, so it cannot replace it.
    stale = rarefy("promote", "first")
    assert stale.code == 4
    assert f"measured against nothing, but production is {two[:12]} now" in stale.err
    assert releases.production() == two

    # Rollback: the same bytes, the same answer.
    assert rarefy("rollback", "production").code == 0
    assert releases.production() == one
    assert releases.bytes(one) == old_bytes
    assert rarefy(*question).json == old_answer
    shown = rarefy("artifact", "show", "production", "--json").json
    assert [(move["why"], move["digest"]) for move in shown["history"]] == [
        ("promote", one),
        ("promote", two),
        ("rollback", one),
    ]
