"""The end of a sweep: its questions are answered, and the chosen recipes run to their verdicts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.table import Table

from flows import compress, jobs, sweeping
from flows.display import Display
from flows.results import Result
from flows.sweeping import Job
from pipeline.measure import machine
from pipeline.measure.measurements import CANDIDATE
from pipeline.recipe import recipe as recipes
from pipeline.report import wording
from pipeline.store import disk
from pipeline.store.artifact import Kind
from pipeline.sweep import page, pareto, winner
from pipeline.sweep.branch import Branch
from pipeline.sweep.questions import Question
from pipeline.sweep.record import Answer, SweepRecord
from pipeline.terms.errors import EvidenceError, IntegrityError
from pipeline.terms.interval import Interval
from pipeline.terms.wording import plural

PAGE: Final = "sweep.html"
RECORD: Final = "sweep.json"
RUNS: Final = "runs"


@dataclass(frozen=True)
class Swept:
    """A finished sweep: its record, and where its page and record are."""

    record: SweepRecord
    paths: dict[str, str]

    @property
    def exit_code(self) -> int:
        """3 if a chosen recipe misses a budget; else 4 if a question or a verdict is open; else 0.

        A recipe without budgets has no verdict, and none is missed.
        """
        if any(answer.outcome == "fail" for answer in self.record.answers):
            return 3
        open_ = any(a.branch is None or a.outcome == "inconclusive" for a in self.record.answers)
        return 4 if open_ else 0

    def as_json(self) -> dict[str, Any]:
        """Return what ``rarefy sweep --json`` prints."""
        told = self.record.model_dump(mode="json", by_alias=True)
        told["front"] = [branch.name for branch in self.record.front]
        return {"exit_code": self.exit_code, **self.paths, **told}

    def table(self) -> Table:
        """Return a row for each question."""
        columns = ("question", "branch", "dev", "p50", "size", "eval", "verdict", "recipe")
        table = Table(*columns, box=None, pad_edge=False, header_style="dim")
        for answer in self.record.answers:
            table.add_row(*self._cells(answer))
        return table

    def _cells(self, answer: Answer) -> list[str]:
        branch = self.record.branch(answer.branch)
        if branch is None:
            return [answer.question, "none", "", "", "", "", "", ""]
        return [
            answer.question,
            branch.name,
            "" if branch.accuracy is None else wording.score(branch.accuracy.value, branch.metric),
            "" if branch.latency is None else wording.milliseconds(branch.latency.value),
            "" if branch.size is None else wording.size(branch.size),
            "" if answer.accuracy is None else wording.score(answer.accuracy.value, answer.metric),
            answer.outcome or "no budgets",
            self._from_here(answer.recipe),
        ]

    def _from_here(self, recipe: str | None) -> str:
        """Return where a recipe is, which the record knows from the sweep's folder."""
        if recipe is None:
            return ""
        path = (Path(self.paths["page"]).parent / recipe).resolve()
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def conclude(
    job: Job,
    branches: Mapping[str, Branch],
    display: Display,
    *,
    command: str,
    wall: float,
    disturbed: int = 0,
    warnings: Sequence[str] = (),
    verbose: bool = False,
) -> Swept:
    """Answer the questions, run each chosen recipe once, and write page and record.

    They are written before the first run and after each, so that an error of one loses no other.
    ``wall``: seconds of the sweep since it was last started. ``disturbed``: the bundles whose times
    are in doubt. ``warnings``: what is wrong with the data.

    Raises EvidenceError if no branch made a bundle, IntegrityError if a run makes another one than
    its branch.
    """
    every = list(branches.values())
    if not any(branch.complete for branch in every):
        raise EvidenceError("no branch made a bundle whose accuracy and latency are known")
    began = datetime.now(UTC)
    recipe = job.sweep.recipe.recipe
    answers = [_answer(job, question, every) for question in job.sweep.file.ask]
    record = SweepRecord(
        name=job.sweep.file.name,
        created=began.isoformat(timespec="seconds"),
        command=command,
        threads=job.threads,
        device=job.device,
        recipe=recipe.name,
        task=recipe.task,
        target=recipe.targets[0].name,
        vary=job.sweep.file.model_dump(mode="json", include={"vary"})["vary"],
        branches=every,
        answers=answers,
        notes=[*warnings, *_notes(job, every), *_doubt(disturbed)],
        seconds=sweeping.seconds(every),
        wall=wall,
        machine=machine.fingerprint(),
    )
    for note in record.notes:
        display.say(f"note: {note}", "yellow")
    _write(job, record)
    for question, answer in zip(job.sweep.file.ask, answers, strict=True):
        chosen = record.branch(answer.branch)
        if chosen is None or answer.report is not None:
            continue
        display.say(f"{question.words()}: {chosen.name}, measured on the eval rows", "bold")
        result = _run(job, question, display, verbose)
        _check_same(job, question, chosen, result)
        for other in answers:
            if other.branch == chosen.name:
                _tell(job, other, question, result)
        record.wall = wall + (datetime.now(UTC) - began).total_seconds()
        _write(job, record)
    return Swept(record, {name: str(path) for name, path in _paths(job).items()})


def _answer(job: Job, question: Question, branches: Sequence[Branch]) -> Answer:
    """Answer a question, and write the recipe of the branch that it asks for."""
    answer = Answer(name=question.name, question=question.words())
    chosen = pareto.answer(question, branches)
    if chosen is None:
        return answer
    path = winner.place(job.sweep, question)
    winner.write(job.sweep, question, chosen, _command(job, path.name))
    answer.branch, answer.recipe = chosen.name, os.path.relpath(path, job.out)
    return answer


def _command(job: Job, recipe: str) -> str:
    """Return the command that runs a chosen recipe as the sweep does."""
    how = ["--device", job.device, "--threads", str(job.threads), *["--first"] * job.first]
    return shlex.join(["rarefy", "run", *how, recipe])  # the recipe is read from its last word


def _run(job: Job, question: Question, display: Display, verbose: bool) -> Result:
    """Run a chosen recipe in this process; what its branch made is found in the store."""
    path = winner.place(job.sweep, question)
    asked = jobs.Job(
        recipe=str(path),
        home=str(job.home.path),
        out=str(job.out / RUNS / question.name),
        device=job.device,
        threads=job.threads,
        command=_command(job, os.path.relpath(path)),  # `rarefy validate` reads the recipe there
        first=job.first,
        store=job.store,
    )
    return compress.run(asked, recipes.load(path), "inline", display, verbose=verbose)


def _check_same(job: Job, question: Question, chosen: Branch, result: Result) -> None:
    """Raise IntegrityError if a run made another bundle than the branch that was chosen."""
    made = result.outcome.bundle
    if made is None or made.digest != chosen.bundle:
        raise IntegrityError(
            f"{winner.place(job.sweep, question)}: its run made another bundle than the branch "
            f"{chosen.name}; data, model or code changed meanwhile: run the sweep again"
        )


def _tell(job: Job, answer: Answer, ran_as: Question, result: Result) -> None:
    """Add to an answer what the run of its branch found."""
    answer.metric, answer.accuracy, answer.latency = _measured(job, result)
    judged = result.verdict
    answer.report = os.path.relpath(job.out / RUNS / ran_as.name / "report.html", job.out)
    answer.outcome = judged.outcome if judged else None
    answer.missed = list(judged.missed) if judged else []


def _notes(job: Job, branches: Sequence[Branch]) -> list[str]:
    """Say if the development rows are too few for what is asked."""
    asked = [q.within for q in job.sweep.file.ask if q.within is not None]
    asked += [stop.points for stop in job.sweep.file.stop if stop.points is not None]
    known = [b.accuracy for b in branches if b.accuracy is not None]
    if not asked or not known:
        return []
    half = median((each.high - each.low) / 2 for each in known)
    if half <= min(asked):
        return []
    return [
        f"the development rows tell the score of a branch within ±{100 * half:.2g} points, and "
        f"{100 * min(asked):.2g} are asked for: the choice is partly chance; give more in data.dev"
    ]


def _doubt(disturbed: int) -> list[str]:
    """Say how many latencies are in doubt, if any are."""
    if not disturbed:
        return []
    return [
        f"the latencies of {plural(disturbed, 'bundle')} are in doubt: something slowed this "
        "machine down each time; the same command takes them again"
    ]


def _paths(job: Job) -> dict[str, Path]:
    return {"page": job.out / PAGE, "record": job.out / RECORD}


def _write(job: Job, record: SweepRecord) -> None:
    paths = _paths(job)
    disk.write_text(paths["page"], page.render(record))
    disk.write_text(paths["record"], record.model_dump_json(by_alias=True, indent=1) + "\n")


def _measured(job: Job, result: Result) -> tuple[str | None, Interval | None, Interval | None]:
    """Return the main score of a run's bundle on eval, and its median latency in ms."""
    found = result.outcome.data.measurements
    if found is not None:
        timed = found.latency.get(job.sweep.recipe.recipe.targets[0].name)
        latency = timed.percentile(CANDIDATE, 50) if timed else None
        return found.main, found.score(found.main, CANDIDATE), latency
    for row in reversed(result.ledger):
        if row.kind == Kind.BUNDLE and row.accuracy is not None:
            return row.metric, Interval(*row.accuracy), None
    return None, None, None
