"""The end of a sweep: its questions are answered, and the chosen recipes run to their verdicts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from rarefy.flows import start
from rarefy.flows.console.display import Display
from rarefy.flows.console.options import plain_table
from rarefy.flows.console.results import Result
from rarefy.flows.run import job as jobs
from rarefy.flows.sweep.job import Job
from rarefy.pipeline.measure import machine
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.store import disk
from rarefy.pipeline.sweep import answers as pareto
from rarefy.pipeline.sweep import page, winner
from rarefy.pipeline.sweep.branch import Branch
from rarefy.pipeline.sweep.questions import Question
from rarefy.pipeline.sweep.record import Answer, SweepRecord
from rarefy.pipeline.terms.errors import IntegrityError
from rarefy.pipeline.terms.interval import Interval

PAGE: Final = "sweep.html"
RECORD: Final = "sweep.json"
RUNS: Final = "runs"
COLUMNS: Final = ("question", "branch", "measured", "verdict", "recipe")

Run = Callable[[jobs.Job, Display], Result]


@dataclass(frozen=True)
class Swept:
    """A finished sweep: its record, and the folder with its page and record."""

    record: SweepRecord
    folder: Path

    @property
    def exit_code(self) -> int:
        """3 if a chosen recipe misses a budget; else 4 if a question or a verdict is open; else 0.

        A recipe without budgets has no verdict, and none is missed.
        """
        outcomes = [answer.outcome for answer in self.record.answers]
        branches = [answer.branch for answer in self.record.answers]
        if "fail" in outcomes:
            return 3
        if "inconclusive" in outcomes or None in branches:
            return 4
        return 0

    def as_json(self) -> dict[str, Any]:
        """Return what ``rarefy sweep --json`` prints."""
        front = [branch.name for branch in self.record.front]
        return {
            "exit_code": self.exit_code,
            "page": str(self.folder / PAGE),
            "front": front,
            **self.record.model_dump(mode="json", by_alias=True),
        }

    def table(self) -> Table:
        """Return a row for each question."""
        table = plain_table(*COLUMNS)
        for answer in self.record.answers:
            branch = self.record.branch(answer.branch)
            if branch is None:
                table.add_row(answer.question, "none")
                continue
            outcome = answer.outcome or "no budgets"
            recipe = os.path.relpath(self.folder / str(answer.recipe))
            table.add_row(answer.question, branch.name, branch.facts, outcome, recipe)
        return table


def run_recipe(job: jobs.Job, display: Display) -> Result:
    """Run a chosen recipe in this process; what its branch made is found in the store."""
    loaded = recipes.load(Path(job.recipe))
    return start.run(job, loaded, "inline", display)


def conclude(
    job: Job,
    branches: Sequence[Branch],
    display: Display,
    *,
    command: str,
    notes: Sequence[str] = (),
    run: Run = run_recipe,
) -> Swept:
    """Answer the questions, run each chosen recipe once, and write page and record.

    They are written before the first run and after each, so that an error of one loses no other.

    Args:
        job: The sweep.
        branches: All of its branches.
        display: Shows the runs.
        command: What repeats the sweep.
        notes: What the answers do not tell.
        run: Runs a chosen recipe.

    Raises:
        IntegrityError: A run makes another bundle than its branch.
    """
    file, recipe = job.sweep.file, job.sweep.recipe.recipe
    answers = [_answer(job, question, branches) for question in file.ask]
    record = SweepRecord(
        name=file.name,
        command=command,
        threads=job.threads,
        device=job.device,
        recipe=recipe.name,
        target=recipe.targets[0].name,
        vary=dict(file.vary),
        branches=list(branches),
        answers=answers,
        notes=list(notes),
        seconds=sum(branch.seconds for branch in branches),
        machine=machine.fingerprint(),
    )
    display.notes(record.notes)
    _write(job, record)
    for question, answer in zip(file.ask, answers, strict=True):
        branch = record.branch(answer.branch)
        if branch is None or answer.report is not None:
            continue
        display.say(f"{question.words()}: {branch.name}, measured on the eval rows", "bold")
        result = run(_job(job, question), display)
        bundle = result.outcome.bundle
        if bundle is None or bundle.digest != branch.bundle:
            raise IntegrityError(
                f"{answer.recipe}: its run made another bundle than the branch {branch.name}; "
                "data, model or code changed meanwhile: run the sweep again"
            )
        for other in answers:
            if other.branch == branch.name:
                _fill(other, question, branch, result)
        _write(job, record)
    return Swept(record, job.out)


def _answer(job: Job, question: Question, branches: Sequence[Branch]) -> Answer:
    """Answer a question, and write the recipe of the branch that it asks for."""
    answer = Answer(name=question.name, question=question.words())
    branch = pareto.answer(question, branches)
    if branch is None:
        return answer
    path = winner.place(job.sweep, question)
    command = _command(job, path.name)
    winner.write(job.sweep, question, branch, command)
    answer.branch = branch.name
    answer.recipe = os.path.relpath(path, job.out)
    return answer


def _command(job: Job, recipe: str) -> str:
    """Return the command that runs a chosen recipe as the sweep does."""
    options = {"--device": job.device, "--threads": job.threads, "--first": job.first}
    words = jobs.words(options)
    return shlex.join(["rarefy", "run", *words, recipe])  # the recipe is read from its last word


def _job(job: Job, question: Question) -> jobs.Job:
    path = winner.place(job.sweep, question)
    out = job.out / RUNS / question.name
    return jobs.Job(
        recipe=str(path),
        home=str(job.home.path),
        out=str(out),
        device=job.device,
        threads=job.threads,
        command=_command(job, os.path.relpath(path)),  # `rarefy validate` reads the recipe there
        first=job.first,
        store=job.store,
    )


def _fill(answer: Answer, ran_as: Question, branch: Branch, result: Result) -> None:
    """Add to an answer what the run of its branch found, for whichever question it ran."""
    answer.report = f"{RUNS}/{ran_as.name}/report.html"
    if result.verdict is not None:
        answer.outcome = result.verdict.outcome
        answer.missed = list(result.verdict.missed)
    for row in result.ledger:
        if row.digest == branch.bundle and row.accuracy is not None:
            answer.accuracy = Interval(*row.accuracy)


def _write(job: Job, record: SweepRecord) -> None:
    disk.write_text(job.out / PAGE, page.render(record))
    text = record.model_dump_json(by_alias=True, indent=1)
    disk.write_text(job.out / RECORD, text)
