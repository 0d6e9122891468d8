"""What a stage keeps for later runs of it with other parameters or budgets."""

from __future__ import annotations

from typing import Any

import pytest

from rarefy.pipeline.run import engine
from rarefy.pipeline.store.garbage import Collector
from tests.conftest import VALIDATE, Workshop

KEEPER = '''
from typing import ClassVar

from rarefy.pipeline.stage import Draft, Policy, Stage
from rarefy.pipeline.store.artifact import Kind


class Keeper(Stage):
    """Say what it finds, and leave one more."""

    name: ClassVar[str] = "keeper"
    consumes: ClassVar = frozenset({Kind.ENCODER})
    produces: ClassVar = Kind.REPORT
    policy: ClassVar[Policy] = Policy(keeps_files=True)
    word: str

    def run(self, context, model):
        found = sorted(path.name for path in context.shared.iterdir())
        (context.output / "found.txt").write_text(" ".join(found))
        (context.shared / self.word).touch()
        return Draft()
'''


@pytest.fixture
def keeper(workshop: Workshop) -> Workshop:
    (workshop.folder / "own.py").write_text(KEEPER)
    return workshop


def found(workshop: Workshop, word: str, **changes: Any) -> str:
    artifact = workshop.run({"own:Keeper": {"word": word}}, **changes)["keeper"].artifact
    return artifact.path("found.txt").read_text()


@pytest.mark.slow
def test_an_edited_limit_on_times_exports_no_reference_again(workshop, monkeypatch, known_times):
    """It decides how long to sample, so the times are measured again."""
    chain = ({"finetune": {"epochs": 1}}, "export", VALIDATE)
    limit = {"metric": "latency_p50", "max": "1000 ms"}
    first = workshop.run(*chain, budgets=[limit])["validate"]
    monkeypatch.setattr("rarefy.exporters.build.build", lambda *_, **__: pytest.fail("built again"))
    second = workshop.run(*chain, budgets=[limit | {"max": "2000 ms"}])["validate"]
    assert not second.cached
    assert second.artifact.digest != first.artifact.digest


def test_runs_with_other_parameters_share_what_was_kept(keeper):
    assert [found(keeper, word) for word in ("one", "two", "three")] == ["", "one", "one two"]


def test_rows_that_are_read_otherwise_share_nothing(keeper):
    assert found(keeper, "one") == ""
    shorter = {"train": "train.jsonl", "eval": "eval.jsonl", "max_length": 16}
    assert found(keeper, "two", data=shorter) == ""


def test_other_code_shares_nothing(keeper):
    assert found(keeper, "one") == ""
    (keeper.folder / "own.py").write_text(KEEPER.replace("one more", "another"))
    assert found(keeper, "two") == ""


def test_gc_deletes_what_was_kept_if_no_run_has_it(keeper):
    run = keeper.open({"own:Keeper": {"word": "one"}})
    with engine.shared_folder(run.plan, run.plan.stage_of("keeper")) as folder:
        collector = Collector(keeper.store, days=-1)
        assert folder not in [garbage.path for garbage in collector.find()]
    (garbage,) = (each for each in collector.find() if each.path == folder)
    assert collector.delete(garbage)
    assert not folder.exists()
