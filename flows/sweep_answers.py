"""The end of a sweep: its questions are answered, and the chosen recipes run to their verdicts."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.table import Table

from flows import compress, jobs
from flows.display import Display
from flows.results import Result
from flows.sweep_job import Job
from pipeline.measure import machine
from pipeline.recipe import recipe as recipes
from pipeline.report import wording
from pipeline.store import disk
from pipeline.sweep import page, pareto, winner
from pipeline.sweep.branch import Branch
from pipeline.sweep.questions import Question
from pipeline.sweep.record import Answer, SweepRecord
from pipeline.terms.errors import EvidenceError, IntegrityError
from pipeline.terms.interval import Interval

PAGE: Final = "sweep.html"
RECORD: Final = "sweep.json"
RUNS: Final = "runs"
COLUMNS: Final = ("question", "branch", "dev", "p50", "size", "eval", "verdict", "recipe")

Run = Callable[[jobs.Job, Display, bool], Result]


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
        if "fail" in outcomes:
            return 3
        branches = [answer.branch for answer in self.record.answers]
        return 4 if None in branches or "inconclusive" in outcomes else 0

    def as_json(self) -> dict[str, Any]:
        """Return what ``rarefy sweep --json`` prints."""
        record = self.record.model_dump(mode="json", by_alias=True)
        record["front"] = [branch.name for branch in self.record.front]
        paths = {"page": str(self.folder / PAGE), "record": str(self.folder / RECORD)}
        return {"exit_code": self.exit_code, **paths, **record}

    def table(self) -> Table:
        """Return a row for each question."""
        table = Table(*COLUMNS, box=None, pad_edge=False, header_style="dim")
        for answer in self.record.answers:
            branch = self.record.branch(answer.branch)
            cells = ["none"] if branch is None else self._cells(answer, branch)
            table.add_row(answer.question, *cells)
        return table

    def _cells(self, answer: Answer, branch: Branch) -> list[str]:
        size = ""
        if branch.size is not None:
            size = wording.size(branch.size)
        outcome = answer.outcome or "no budgets"
        recipe = os.path.relpath(self.folder / str(answer.recipe))
        dev = _text(wording.score, branch.accuracy, branch.metric)
        held_out = _text(wording.score, answer.accuracy, branch.metric)
        latency = _text(wording.milliseconds, branch.latency)
        return [branch.name, dev, latency, size, held_out, outcome, recipe]


def _text(form: Callable[..., str], interval: Interval | None, *options: Any) -> str:
    """Return the value of an interval as text."""
    return "" if interval is None else form(interval.value, *options)


def run_recipe(job: jobs.Job, display: Display, verbose: bool) -> Result:
    """Run a chosen recipe in this process; what its branch made is found in the store."""
    loaded = recipes.load(Path(job.recipe))
    return compress.run(job, loaded, "inline", display, verbose=verbose)


def conclude(
    job: Job,
    branches: Sequence[Branch],
    display: Display,
    *,
    command: str,
    began: float,
    notes: Sequence[str] = (),
    verbose: bool = False,
    run: Run = run_recipe,
) -> Swept:
    """Answer the questions, run each chosen recipe once, and write page and record.

    They are written before the first run and after each, so that an error of one loses no other.

    Args:
        job: The sweep.
        branches: All of its branches.
        display: Shows the runs.
        command: What repeats the sweep.
        began: When it was last started, by ``time.monotonic``.
        notes: What the answers do not tell.
        verbose: Whether to show logs.
        run: Runs a chosen recipe.

    Raises:
        EvidenceError: No branch made a bundle.
        IntegrityError: A run makes another bundle than its branch.
    """
    if not any(branch.complete for branch in branches):
        raise EvidenceError("no branch made a bundle whose accuracy and latency are known")
    file, recipe = job.sweep.file, job.sweep.recipe.recipe
    vary = file.model_dump(mode="json", include={"vary"})["vary"]
    answers = [_answer(job, question, branches) for question in file.ask]
    now = datetime.now(UTC)
    seconds = sum(branch.seconds for branch in branches)
    wall = time.monotonic() - began
    record = SweepRecord(
        name=file.name,
        created=now.isoformat(timespec="seconds"),
        command=command,
        threads=job.threads,
        device=job.device,
        recipe=recipe.name,
        task=recipe.task,
        target=recipe.targets[0].name,
        vary=vary,
        branches=list(branches),
        answers=answers,
        notes=[*notes, *_imprecision(job, branches)],
        seconds=seconds,
        wall=wall,
        machine=machine.fingerprint(),
    )
    for note in record.notes:
        display.say(f"note: {note}", "yellow")
    _write(job, record)
    for question, answer in zip(file.ask, answers, strict=True):
        branch = record.branch(answer.branch)
        if branch is None or answer.report is not None:
            continue
        display.say(f"{question.words()}: {branch.name}, measured on the eval rows", "bold")
        result = run(_job(job, question), display, verbose)
        _check_bundle(job, question, branch, result)
        for other in answers:
            if other.branch == branch.name:
                _fill(job, other, question, branch, result)
        record.wall = time.monotonic() - began
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
    words = ["rarefy", "run", "--device", job.device, "--threads", str(job.threads)]
    if job.first:
        words.append("--first")
    return shlex.join([*words, recipe])  # the recipe is read from its last word


def _job(job: Job, question: Question) -> jobs.Job:
    path = winner.place(job.sweep, question)
    command = _command(job, os.path.relpath(path))  # `rarefy validate` reads the recipe there
    out = job.out / RUNS / question.name
    return jobs.Job(
        recipe=str(path),
        home=str(job.home.path),
        out=str(out),
        device=job.device,
        threads=job.threads,
        command=command,
        first=job.first,
        store=job.store,
    )


def _check_bundle(job: Job, question: Question, branch: Branch, result: Result) -> None:
    """Raise IntegrityError if a run made another bundle than the branch that was chosen."""
    bundle = result.outcome.bundle
    if bundle is None or bundle.digest != branch.bundle:
        raise IntegrityError(
            f"{winner.place(job.sweep, question)}: its run made another bundle than the branch "
            f"{branch.name}; data, model or code changed meanwhile: run the sweep again"
        )


def _fill(job: Job, answer: Answer, ran_as: Question, branch: Branch, result: Result) -> None:
    """Add to an answer what the run of its branch found, for whichever question it ran."""
    answer.report = f"{RUNS}/{ran_as.name}/report.html"
    if result.verdict is not None:
        answer.outcome = result.verdict.outcome
        answer.missed = list(result.verdict.missed)
    for row in result.ledger:
        if row.digest == branch.bundle and row.accuracy is not None:
            answer.metric = row.metric
            answer.accuracy = Interval(*row.accuracy)


def _imprecision(job: Job, branches: Sequence[Branch]) -> list[str]:
    """Say if the development rows are too few for what is asked."""
    distances = [question.within for question in job.sweep.file.ask if question.within]
    distances += [stop.points for stop in job.sweep.file.stop if stop.points]
    intervals = [branch.accuracy for branch in branches if branch.accuracy]
    if not distances or not intervals:
        return []
    half = 50 * median(interval.high - interval.low for interval in intervals)
    points = 100 * min(distances)
    if half <= points:
        return []
    return [
        f"the development rows tell the score of a branch within ±{half:.2g} points, and "
        f"{points:.2g} are asked for: the choice is partly chance; give more in data.dev"
    ]


def _write(job: Job, record: SweepRecord) -> None:
    disk.write_text(job.out / PAGE, page.render(record))
    text = record.model_dump_json(by_alias=True, indent=1)
    disk.write_text(job.out / RECORD, f"{text}\n")
