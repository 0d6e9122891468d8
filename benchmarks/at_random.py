"""What the processes of ``benchmarks.interleavings`` do at random to one store and one remote."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from pipeline.stage import Context, Draft, Stage
from pipeline.store.artifact import Artifact, Kind
from pipeline.verdict.record import ReportData

OPERATIONS = 6
"""Of each process in one interleaving."""
WORDS = ("one", "two", "three", "four")
TAGS = ("production", "staging")
CHOICES = ("run", "tag", "promote", "promote", "rollback", "push", "pull", "gc", "gc")


class Say(Stage):
    """Write a word into a file that is named like a bundle's model, after a moment."""

    name: ClassVar[str] = "say"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.REPORT})
    produces: ClassVar[Kind | None] = Kind.REPORT
    libraries: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[frozenset[str]] = frozenset()

    word: str

    def run(self, context: Context, model: Artifact) -> Draft:
        time.sleep(0.02)
        (context.output / "model.onnx").write_text(self.word * 1000)
        return Draft()


def make_project(project: Path) -> None:
    """Write a tiny model, data, and a recipe for each word."""
    from benchmarks.engine_cost import tiny_model

    project.mkdir()
    rows = [{"text": text, "label": text} for text in ("a", "b")]
    for split in ("train", "eval"):
        (project / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for word in WORDS:
        (project / f"{word}.yaml").write_text(
            f"name: {word}\nmodel: model\ndata: {{train: train.jsonl, eval: eval.jsonl}}\n"
            "stages:\n  - benchmarks.at_random:Say: {word: common}\n"
            f"  - benchmarks.at_random:Say: {{word: {word}}}\n    as: second\n"
        )
    tiny_model(project / "model")


def _record(name: str, digest: str) -> ReportData:
    """Return the record of a run whose bundle passed its one budget."""
    from pipeline.measure.measurements import CANDIDATE, Measurements, ModelMeasurement
    from pipeline.verdict.verdict import BudgetResult, Verdict

    candidate = ModelMeasurement(digest=digest, size=1000, answers=[[1.0, 0.0]])
    passed = BudgetResult(
        metric="size", form="max", limit=2000, value=1000, outcome="pass", reason="it is small"
    )
    return ReportData(
        name=name,
        created="2026-01-01T00:00:00+00:00",
        command=f"rarefy run {name}.yaml",
        recipe=f"name: {name}\n",
        task="text-classification",
        labels=["a", "b"],
        rows={"train": 2, "eval": 2},
        ledger=[],
        lineage=[],
        verdict=Verdict(outcome="pass", budgets=[passed]),
        measurements=Measurements(
            machine={},
            task="text-classification",
            labels=["a", "b"],
            truth=[0],
            models={CANDIDATE: candidate},
            latency={},
            samples=[],
        ),
        machine={},
    )


class Log:
    """Notes each move that this process wrote or took back, where the bytes are written."""

    def __init__(self) -> None:
        from pipeline.store import swap, tags
        from pipeline.store.store import Store

        self.written: list[tuple[str, str, float]] = []
        self.undone: list[tuple[str, str, float]] = []
        write, restore, replace = Store._write_tag, Store.restore, swap.replace

        def write_tag(store: Store, name: str, tag: Any) -> None:
            write(store, name, tag)
            self.written.append(("here", name, tag.moves[-1].time))

        def restore_tag(store: Store, name: str, moved_to: Any) -> bool:
            done = restore(store, name, moved_to)
            if done:
                self.undone.append(("here", name, moved_to.moves[-1].time))
            return done

        def replace_file(system: Any, path: str, data: bytes, seen: Any) -> None:
            replace(system, path, data, seen)
            tag = tags.parse(data, path)
            self.written.append(("there", Path(path).stem, tag.moves[-1].time))

        Store._write_tag, Store.restore = write_tag, restore_tag  # type: ignore[method-assign]
        swap.replace = replace_file


class Process:
    """One process in one interleaving."""

    def __init__(self, seed: str, project: Path, home: Path, remote: str, log: Log) -> None:
        from pipeline.store.home import Home

        self.random = random.Random(seed)
        self.project, self.home, self.remote, self.log = project, Home(home), remote, log
        self.store = self.home.store()
        self.violations: list[str] = []
        log.written, log.undone = [], []

    def work(self) -> dict[str, Any]:
        outcomes: Counter[str] = Counter()
        operations = [self.random.choice(CHOICES) for _ in range(OPERATIONS - 1)]
        for operation in ("run", *operations):
            time.sleep(self.random.random() * 0.02)
            outcomes[f"{operation}: {self._attempt(operation)}"] += 1
        return {
            "outcomes": outcomes,
            "violations": self.violations,
            "written": self.log.written,
            "undone": self.log.undone,
        }

    def _attempt(self, operation: str) -> str:
        from pipeline.terms.errors import EvidenceError, RecipeError

        try:
            return getattr(self, operation)() or "done"
        except EvidenceError:
            return "moved meanwhile"
        except RecipeError:
            return "nothing there"
        except Exception as error:
            self.violations.append(f"{operation}: {error!r}")
            return "FAILED"

    def run(self) -> str:
        """Run a recipe, look whether all that it used is whole, and write the run's folder."""
        from pipeline.recipe import recipe as recipes
        from pipeline.run import folder
        from pipeline.run.engine import Run
        from pipeline.run.outcome import Outcome
        from pipeline.run.plan import MODEL, Plan

        word = self.random.choice(WORDS)
        run = Run(Plan(recipes.load(self.project / f"{word}.yaml"), self.store, threads=1))
        steps = [run.execute(name) for name in (MODEL, *(s.id for s in run.plan.loaded.steps))]
        for step in steps:
            if problems := self._verify(step.artifact.digest):
                self.violations.append(f"run: {step.id} was not whole: {problems}")
        bundle = steps[-1].artifact
        folder.write(Outcome(_record(word, bundle.digest), bundle), self.home.runs / word)
        return "cached" if all(step.cached for step in steps) else "made"

    def _verify(self, digest: str) -> Any:
        try:
            return self.store.verify(digest)
        except Exception as error:
            return repr(error)

    def tag(self) -> None:
        self.store.tag(self.random.choice(TAGS), self._any())

    def promote(self) -> None:
        from pipeline.release import promotion

        to = self.random.choice((None, self.remote, self.remote))
        word, tag = self.random.choice(WORDS), self.random.choice(TAGS)
        promotion.promote(str(self.home.runs / word), tag, self.home, to)

    def rollback(self) -> None:
        from pipeline.release import promotion

        tag = self.random.choice(TAGS)
        promotion.rollback(self.random.choice((tag, f"{self.remote}#{tag}")), self.home)

    def push(self) -> None:
        from pipeline.store import remote

        remote.push(self.store, self._any(), self.remote, self.random.choice(TAGS))

    def pull(self) -> None:
        from pipeline.store import remote

        tag = self.random.choice(TAGS)
        pulled = remote.pull(self.store, self.remote, tag)
        if self.random.random() < 0.5:
            self.store.tag(tag, pulled.digest)

    def gc(self) -> str:
        from pipeline.store.garbage import Collector

        collector = Collector(self.store, days=-1)
        garbage = collector.find()
        time.sleep(self.random.random() * 0.3)  # long enough for others to need it
        return f"{len(collector.delete_all(garbage))} deleted"

    def _any(self) -> str:
        from pipeline.terms.errors import RecipeError

        digests = self.store.digests()
        if not digests:
            raise RecipeError("the store is empty")
        return self.random.choice(digests)
