"""Nothing but ``validate`` and the ledger's scores opens the eval split, except to avoid it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.measure.predictions import predict as accuracy
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.stage import Context, Draft, Stage, discovery
from rarefy.pipeline.store.artifact import Artifact
from tests.conftest import VALIDATE, Workshop, execute

CHAIN: tuple[Any, ...] = (
    {"finetune": {"epochs": 1}},
    {"distill": {"keep_layers": 1, "epochs": 1}},
    {"prune": {"remove_neurons": "25 %", "remove_heads": "25 %"}},
    {"factorize": {"keep_weights": 0.95, "calibration_rows": 8}},
    {"adapt": {"teacher": "finetune", "epochs": 1}},
    {"quantize": {"mode": "static", "calibration_rows": 16}},
    "merge",
    "export",
    VALIDATE,
)


class Poison:
    """Stands for the eval split while a stage runs that must not see it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the eval split was read: {name}")


def test_of_the_installed_stages_only_validate_reads_eval_and_augment_avoids_it() -> None:
    stages = {name: discovery.find(name, Path()) for name in discovery.installed()}
    reading = {name for name, stage in stages.items() if "eval" in stage.model_construct().reads}
    assert reading == {"validate", "augment"}


def test_no_other_stage_can_open_it_and_a_new_byte_reruns_no_other(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, known_times: None
) -> None:
    """The file is gone while they run, and its rows raise an error if they are touched."""
    workshop.widen()
    path, away = workshop.folder / "eval.jsonl", workshop.folder / "away"
    ran: list[str] = []
    run_stage = Run.run_stage

    def poisoned(
        run: Run, identifier: str, stage: Stage, context: Context, known: dict[str, Artifact]
    ) -> Draft:
        ran.append(identifier)
        if stage.name == "validate":
            return run_stage(run, identifier, stage, context, known)
        assert "eval" not in context.splits
        splits: dict[str, Any] = run.plan.splits
        whole = splits["eval"]
        splits["eval"] = Poison()
        path.rename(away)
        try:
            return run_stage(run, identifier, stage, context, known)
        finally:
            away.rename(path)
            splits["eval"] = whole

    monkeypatch.setattr(Run, "run_stage", poisoned)
    first = execute(workshop.open(*CHAIN))
    assert ran == list(first)

    ran.clear()
    answered: list[Path] = []
    answer = accuracy.checkpoint_answers

    def noted(directory: Path, *rest: Any) -> Any:
        answered.append(directory)
        return answer(directory, *rest)

    monkeypatch.setattr(accuracy, "checkpoint_answers", noted)
    path.write_bytes(path.read_bytes().replace(b"film", b"Film", 1))
    second = execute(workshop.open(*CHAIN))
    assert ran == ["validate"], "what was trained does not depend on eval"
    scored = {name for name, step in second.items() if step.scores}
    checkpoints = {second[name].artifact.directory for name in scored - {"export"}}
    assert set(answered) == checkpoints, "every score in the ledger is of the new rows"
