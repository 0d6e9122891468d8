"""The answers of a sweep: exit codes, the table, and what a chosen recipe's run adds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rarefy.flows.console.display import Display
from rarefy.flows.console.options import as_text, stderr
from rarefy.flows.run import job as jobs
from rarefy.flows.sweep import answers as sweep_answers
from rarefy.flows.sweep.answers import Swept
from rarefy.flows.sweep.job import Job
from rarefy.flows.sweep.workers import Where
from rarefy.pipeline.release import origin
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.sweep.record import Answer, SweepRecord
from rarefy.pipeline.terms.errors import IntegrityError
from rarefy.pipeline.terms.interval import Interval
from tests.pipeline.sweep import factory


def swept(*answers: Answer) -> Swept:
    record = SweepRecord(
        name="many",
        command="rarefy sweep sweep.yaml",
        threads=1,
        device="cpu",
        recipe="base",
        target="cpu",
        vary={"distill.keep_layers": [1, 2]},
        branches=[
            factory.branch("large", 0.9, 8.0, 80_000_000),
            factory.branch("small", 0.8, 1.0, 9),
        ],
        answers=list(answers),
        seconds=10.0,
        machine={},
    )
    return Swept(record, Path("out"))


def answer(branch: str | None, outcome: str | None, **given: Any) -> Answer:
    return Answer(name="q", question="the fastest", branch=branch, outcome=outcome, **given)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([answer("large", "pass"), answer("small", "pass")], 0),
        ([answer("large", None)], 0),
        ([answer("large", "pass"), answer(None, None)], 4),
        ([answer("large", "inconclusive")], 4),
        ([answer(None, None), answer("small", "fail")], 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst_answer(answers: list[Answer], code: int) -> None:
    assert swept(*answers).exit_code == code


def test_the_table_has_a_row_for_each_question() -> None:
    found = answer("small", "pass", accuracy=Interval(0.77, 0.7, 0.8), recipe="q.yaml")
    text = as_text(swept(found, answer(None, None)).table()).replace("\u00a0", " ")
    first, second = text.splitlines()[1:]
    for words in ("the fastest", "small", "80.0%", "1 ms", "pass", "q.yaml"):
        assert words in first
    assert second.split() == ["the", "fastest", "none"]


def test_the_table_says_where_a_recipe_is_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = swept(answer("small", "pass", recipe="../../many-fastest.yaml"))
    there = replace(found, folder=tmp_path / "sweeps" / "many")
    monkeypatch.chdir(tmp_path)
    assert as_text(there.table()).splitlines()[1].split()[-1] == "many-fastest.yaml"


def test_json_has_the_front_and_the_paths() -> None:
    told = swept(answer("small", "pass")).as_json()
    assert (told["exit_code"], told["page"]) == (0, "out/sweep.html")
    assert told["front"] == ["large", "small"]
    assert told["schema"] == "rarefy.sweep/1"


def job(folder: Path, *, first: bool = False, **given: Any) -> Job:
    return Job(
        sweep=factory.load(folder, **given),
        home=Home(folder / "home"),
        out=folder,
        where=Where("inline"),
        threads=1,
        device="cpu",
        first=first,
    )


def concluded(
    folder: Path,
    *,
    first: bool = False,
    notes: Sequence[str] = (),
    run: Any = None,
    **given: Any,
) -> Swept:
    branches = [
        factory.branch("large", 0.9, 8.0, 80_000_000, values={"distill.keep_layers": 2}),
        factory.branch("small", 0.895, 1.0, 9, values={"distill.keep_layers": 1}),
    ]
    with Display(stderr(), quiet=True) as display:
        return sweep_answers.conclude(
            job(folder, first=first, **given),
            branches,
            display,
            command="rarefy sweep it.yaml",
            notes=notes,
            run=run or (lambda *_: made("b" * 64)),
        )


def made(bundle: str) -> Any:
    """Return a run's result as far as an answer needs it: its bundle, and one score."""
    row = SimpleNamespace(digest=bundle, metric="accuracy", accuracy=(0.8, 0.7, 0.9))
    data = SimpleNamespace(measurements=None)
    outcome = SimpleNamespace(bundle=SimpleNamespace(digest=bundle), data=data)
    return SimpleNamespace(outcome=outcome, verdict=None, ledger=[row])


def test_each_chosen_branch_runs_once_and_answers_all_its_questions(tmp_path: Path) -> None:
    ran: list[str] = []

    def run(asked: jobs.Job, *_: Any) -> Any:
        ran.append(Path(asked.out).name)
        return made("b" * 64)

    answers = concluded(tmp_path, run=run).record.answers
    assert ran == ["fastest-within-1-point", "most-accurate"]
    assert [answer.branch for answer in answers] == ["small", "small", "large"]
    assert {answer.accuracy for answer in answers} == {Interval(0.8, 0.7, 0.9)}
    assert answers[1].report == "runs/fastest-within-1-point/report.html"
    assert (
        "--threads 1 many-most-accurate.yaml" in (tmp_path / "many-most-accurate.yaml").read_text()
    )


@pytest.mark.parametrize(("first", "option"), [(False, ""), (True, "--first ")])
def test_a_chosen_recipe_says_with_which_options_its_run_is_repeated(
    tmp_path: Path, first: bool, option: str
) -> None:
    concluded(tmp_path, first=first)
    lines = (tmp_path / "many-most-accurate.yaml").read_text().splitlines()
    command = f"# rarefy run --device cpu --threads 1 {option}many-most-accurate.yaml"
    assert lines[2] == command


def test_the_recipe_of_a_chosen_run_is_found_where_the_sweep_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)

    def run(asked: jobs.Job, *_: Any) -> Any:
        Path(asked.out).mkdir(parents=True)
        made_by = {"name": Path(asked.recipe).stem, "command": asked.command}
        (Path(asked.out) / "run.json").write_text(json.dumps(made_by))
        return made("b" * 64)

    concluded(folder, run=run)
    run_folder = str(folder / "runs" / "most-accurate")
    loaded = origin.recipe_of(run_folder, None, Home(folder / "home"))
    assert loaded.recipe.name == "many-most-accurate"
    assert str(tmp_path) not in (Path(run_folder) / "run.json").read_text()


def test_a_run_that_makes_another_bundle_than_its_branch_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="another bundle than the branch small"):
        concluded(tmp_path, run=lambda *_: made("c" * 64))
    record = SweepRecord.model_validate_json((tmp_path / "sweep.json").read_text())
    assert [answer.branch for answer in record.answers] == ["small", "small", "large"]
    assert all(answer.accuracy is None for answer in record.answers)
    assert "many" in (tmp_path / "sweep.html").read_text()


def test_notes_stand_in_the_record_and_on_the_page(tmp_path: Path) -> None:
    notes = ["the latencies of 1 bundle are in doubt"]
    assert concluded(tmp_path, notes=notes).record.notes == notes
    assert notes[0] in (tmp_path / sweep_answers.PAGE).read_text()


def test_a_sweep_without_a_finished_branch_has_no_answer(tmp_path: Path) -> None:
    branches = [factory.branch("large", 0.9, 8.0, 1, state="failed", why="export: no")]
    with Display(stderr(), quiet=True) as display:
        swept = sweep_answers.conclude(job(tmp_path), branches, display, command="rarefy sweep")
    assert swept.exit_code == 4
    assert "export: no" in (tmp_path / sweep_answers.PAGE).read_text()
