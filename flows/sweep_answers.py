"""The end of a sweep: its questions are answered, and the chosen recipes run to their verdicts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from flows import compress, jobs, sweeping
from flows.display import Display
from flows.results import Result
from flows.sweeping import Job
from pipeline.measure import machine
from pipeline.measure.measurements import CANDIDATE
from pipeline.report import wording
from pipeline.store import disk
from pipeline.store.artifact import Kind
from pipeline.sweep import page, pareto, winner
from pipeline.sweep.branch import Branch
from pipeline.sweep.record import Answer, SweepRecord
from pipeline.sweep.sweep_file import Question
from pipeline.terms.errors import EvidenceError
from pipeline.terms.interval import Interval

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
            answer.recipe or "",
        ]


def conclude(
    job: Job,
    branches: Mapping[str, Branch],
    display: Display,
    *,
    command: str,
    wall: float,
    verbose: bool = False,
) -> Swept:
    """Answer the questions, run each chosen recipe once, and write page and record.

    ``wall``: seconds of the sweep until now. Raises EvidenceError if no branch made a bundle.
    """
    every = list(branches.values())
    if not any(branch.complete for branch in every):
        raise EvidenceError("no branch made a bundle whose accuracy and latency are known")
    began = datetime.now(UTC)
    runs: dict[str, tuple[Question, Result]] = {}
    answers = []
    for question in job.sweep.file.ask:
        chosen = pareto.answer(question, every)
        if chosen is None:
            answers.append(Answer(name=question.name, question=question.words()))
            continue
        recipe = winner.write(job.sweep, question, chosen, job.out)
        if chosen.name not in runs:
            display.say(f"{question.words()}: {chosen.name}, measured on the eval rows", "bold")
            runs[chosen.name] = question, _run(job, question, chosen, recipe, display, verbose)
        answers.append(_answer(job, question, chosen, recipe, *runs[chosen.name]))
    recipe = job.sweep.recipe.recipe
    record = SweepRecord(
        name=job.sweep.file.name,
        created=began.isoformat(timespec="seconds"),
        command=command,
        recipe=recipe.name,
        task=recipe.task,
        target=recipe.targets[0].name,
        vary=job.sweep.file.model_dump(mode="json", include={"vary"})["vary"],
        branches=every,
        answers=answers,
        seconds=sweeping.seconds(every),
        wall=wall + (datetime.now(UTC) - began).total_seconds(),
        machine=machine.fingerprint(),
    )
    paths = {"page": job.out / PAGE, "record": job.out / RECORD}
    disk.write_text(paths["page"], page.render(record))
    disk.write_text(paths["record"], record.model_dump_json(by_alias=True, indent=1) + "\n")
    return Swept(record, {name: str(path) for name, path in paths.items()})


def _run(
    job: Job,
    question: Question,
    chosen: Branch,
    recipe: Path,
    display: Display,
    verbose: bool,
) -> Result:
    """Run a chosen recipe in this process; what its branch made is found in the store."""
    loaded = winner.recipe(job.sweep, question, chosen)
    asked = jobs.Job(
        recipe=str(recipe),
        home=str(job.home.path),
        out=str(job.out / RUNS / question.name),
        device=job.device,
        threads=job.threads,
        command=shlex.join(["rarefy", "run", str(recipe)]),
        first=job.first,
        store=job.store,
    )
    return compress.run(asked, loaded, "inline", display, verbose=verbose)


def _answer(
    job: Job,
    question: Question,
    chosen: Branch,
    recipe: Path,
    ran_as: Question,
    result: Result,
) -> Answer:
    metric, accuracy, latency = _measured(job, result)
    judged = result.verdict
    return Answer(
        name=question.name,
        question=question.words(),
        branch=chosen.name,
        recipe=os.path.relpath(recipe, job.out),
        report=os.path.relpath(job.out / RUNS / ran_as.name / "report.html", job.out),
        metric=metric,
        accuracy=accuracy,
        latency=latency,
        outcome=judged.outcome if judged else None,
        missed=list(judged.missed) if judged else [],
    )


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
