"""Random interleavings of run, tag, promote, rollback, push, pull and gc by four processes.

The processes work on one store and one remote, an S3 server (moto) that this module starts. Each
interleaving has a fresh store, a fresh place on the server and its own seed; the processes stay.
``gc`` is as greedy as it can be: what no tag needs and nobody uses goes at once, whatever its age.

After each interleaving:

- every tag, here and there, points at an artifact whose bytes match its manifest, and so does each
  entry of its history that a rollback could go back to;
- histories are linear: each move's ``from`` is where the move before it went;
- no move is lost: a history holds exactly the moves that were written and not taken back;
- what a run had in use was whole when the run ended, and no operation failed in another way than
  by finding that an artifact or tag does not exist (any more) or was moved meanwhile.

Operations choose their moments by chance, so the seed fixes what is done but not the exact order.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

from pipeline.stage import Context, Draft, Stage
from pipeline.store.artifact import Artifact, Kind
from pipeline.verdict.record import ReportData

COUNT = 500
PROCESSES = 4
OPERATIONS = 6
"""Of each process in one interleaving."""
WORDS = ("one", "two", "three", "four")
TAGS = ("production", "staging")
BUCKET = "models"
LIMITS = (
    "moto's server checks If-Match and then writes, in threads of one process. It does not show "
    "that a real service does both in one step, what happens if a region fails over, or that a "
    "service that only resembles S3 knows the condition at all. It keeps checksums unchecked."
)


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


def measure(count: int, folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Carry out the interleavings that ``folder`` has no result of; return all results.

    Each has its number, the operations by outcome, the seconds, and the violations in words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "interleavings.jsonl"
    rows = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    rows = [row for row in rows if row["seed"] == seed and row["number"] < count]
    todo = sorted(set(range(count)) - {row["number"] for row in rows})
    if not todo:
        return rows
    project = folder / "project"
    if not (project / "model").exists():
        _project(project)
    with _server() as url, _workers(project) as workers, results.open("a") as file:
        for number in todo:
            place = folder / f"home-{number}"
            row = {"seed": seed} | _interleave(number, seed, place, url, workers)
            rows.append(row)
            print(json.dumps(row), file=file, flush=True)
            if not row["violations"]:
                shutil.rmtree(place)
            if row["violations"] or number % 25 == 24:
                print(f"{number + 1} interleavings; {row['violations'] or 'all well'}", flush=True)
    return rows


def _interleave(
    number: int, seed: int, home: Path, url: str, workers: list[Connection]
) -> dict[str, Any]:
    """Let all processes work at once; return what they did and what is wrong afterwards."""
    began = time.perf_counter()
    (home / "runs").mkdir(parents=True)
    remote = f"{url}/{seed}-{number}"
    for at, worker in enumerate(workers):
        worker.send((f"{seed}-{number}-{at}", str(home), remote))
    outcomes: Counter[str] = Counter()
    violations: list[str] = []
    written: set[tuple[str, str, float]] = set()
    undone: set[tuple[str, str, float]] = set()
    for worker in workers:
        said = worker.recv()
        outcomes.update(said["outcomes"])
        violations += said["violations"]
        written |= {tuple(each) for each in said["written"]}
        undone |= {tuple(each) for each in said["undone"]}
    workers[0].send(("check", str(home), remote))
    found = workers[0].recv()
    violations += found["violations"]
    kept = {tuple(each) for each in found["moves"]}
    violations += [f"a move was lost: {each}" for each in sorted(written - undone - kept)]
    violations += [f"a move that nobody made: {each}" for each in sorted(kept - written)]
    return {
        "number": number,
        "outcomes": dict(sorted(outcomes.items())),
        "moves": len(kept),
        "violations": violations,
        "seconds": round(time.perf_counter() - began, 2),
    }


# A process


def _work(connection: Connection, project: Path) -> None:
    """Carry out what comes through the connection, until None comes."""
    os.chdir(project)
    log = _Log()
    while (task := connection.recv()) is not None:
        what, home, remote = task
        try:
            if what == "check":
                connection.send(_check(Path(home), remote))
            else:
                connection.send(_Process(what, project, Path(home), remote, log).work())
        except Exception as error:
            connection.send(_empty() | {"violations": [f"{what}: {error!r}"]})


def _empty() -> dict[str, Any]:
    return {"outcomes": {}, "violations": [], "written": [], "undone": [], "moves": []}


class _Log:
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

        def restore_tag(store: Store, name: str, moved_to: Any, before: Any) -> bool:
            done = restore(store, name, moved_to, before)
            if done:
                self.undone.append(("here", name, moved_to.moves[-1].time))
            return done

        def replace_file(system: Any, path: str, data: bytes, seen: Any) -> None:
            replace(system, path, data, seen)
            tag = tags.parse(data, path)
            self.written.append(("there", Path(path).stem, tag.moves[-1].time))

        Store._write_tag, Store.restore = write_tag, restore_tag  # type: ignore[method-assign]
        swap.replace = replace_file


class _Process:
    """One process in one interleaving."""

    def __init__(self, seed: str, project: Path, home: Path, remote: str, log: _Log) -> None:
        from pipeline.store.home import Home

        self.random = random.Random(seed)
        self.project, self.home, self.remote, self.log = project, Home(home), remote, log
        self.store = self.home.store()
        self.violations: list[str] = []
        log.written, log.undone = [], []

    def work(self) -> dict[str, Any]:
        outcomes: Counter[str] = Counter()
        operations = [self.random.choice(OPERATION) for _ in range(OPERATIONS - 1)]
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
        from pipeline.release import rollback

        tag = self.random.choice(TAGS)
        rollback.rollback(self.random.choice((tag, f"{self.remote}#{tag}")), self.home)

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
        found = collector.find()
        time.sleep(self.random.random() * 0.3)  # long enough for others to need what it found
        return f"{sum(map(collector.delete, found))} deleted"

    def _any(self) -> str:
        from pipeline.terms.errors import RecipeError

        digests = self.store.digests()
        if not digests:
            raise RecipeError("the store is empty")
        return self.random.choice(digests)


OPERATION = ("run", "tag", "promote", "promote", "rollback", "push", "pull", "gc", "gc")


def _check(home: Path, url: str) -> dict[str, Any]:
    """Read every tag, here and there; return its moves and what is wrong."""
    from pipeline.store.home import Home
    from pipeline.store.remote import Remote

    store, remote = Home(home).store(), Remote.open(url)
    violations, moves = [], []
    here = store.all_tags()
    there = {name: tag for name in remote.tags() if (tag := remote.find_tag(name))}
    for place, tags in (("here", here), ("there", there)):
        for name, tag in tags.items():
            moves += [(place, name, move.time) for move in tag.moves]
            for before, move in zip((None, *tag.moves), tag.moves, strict=False):
                if move.previous != (before.digest if before else None):
                    violations.append(f"{place} {name}: a move does not begin where one ended")
            for digest in tag.kept:
                problem = _here(store, digest) if place == "here" else _there(remote, digest)
                if problem:
                    violations.append(f"{place} {name}: {digest[:12]}: {problem}")
    return {"moves": moves, "violations": violations}


def _here(store: Any, digest: str) -> str | None:
    if digest not in store.digests():
        return "is not there"
    return next(iter(store.verify(digest)), None)


def _there(remote: Any, digest: str) -> str | None:
    """Read the bytes themselves, not the checksums that the server keeps."""
    try:
        manifest = remote.manifest(digest)
    except Exception as error:
        return repr(error)
    for entry in manifest.files:
        data = remote.read(f"artifacts/sha256/{digest}/{entry.path}")
        if data is None or hashlib.sha256(data).hexdigest() != entry.sha256:
            return f"{entry.path} is damaged or missing"
    return None


# What they work with


def _project(project: Path) -> None:
    from benchmarks.engine_cost import tiny_model

    project.mkdir()
    rows = [{"text": text, "label": text} for text in ("a", "b")]
    for split in ("train", "eval"):
        (project / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for word in WORDS:
        (project / f"{word}.yaml").write_text(
            f"name: {word}\nmodel: model\ndata: {{train: train.jsonl, eval: eval.jsonl}}\n"
            "stages:\n  - benchmarks.interleavings:Say: {word: common}\n"
            f"  - benchmarks.interleavings:Say: {{word: {word}}}\n    as: second\n"
        )
    tiny_model(project / "model")


def _record(name: str, digest: str) -> ReportData:
    """Return the record of a run whose bundle passed its one budget."""
    from pipeline.measure.measurements import CANDIDATE, Measurements, ModelMeasurement
    from pipeline.verdict.verdict import BudgetResult, Verdict

    candidate = ModelMeasurement(digest=digest, size=1000, probabilities=[[1.0, 0.0]])
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


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """Start an S3 server in a process of its own and yield the URL of a bucket there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        subprocess.run([sys.executable, "-c", _CREATE], check=True)
        yield f"s3://{BUCKET}"
    finally:
        process.terminate()
        process.wait()


_CREATE = f"import boto3; boto3.client('s3').create_bucket(Bucket={BUCKET!r})"
"""In a process of its own: a client has threads, which a fork does not take along."""


@contextlib.contextmanager
def _workers(project: Path) -> Iterator[list[Connection]]:
    """Start the processes, each with a connection; end them at the end."""
    fork = multiprocessing.get_context("fork")
    processes, connections = [], []
    for _ in range(PROCESSES):
        ours, theirs = fork.Pipe()
        process = fork.Process(target=_work, args=(theirs, project), daemon=True)
        process.start()
        processes.append(process)
        connections.append(ours)
    try:
        yield connections
    finally:
        for connection in connections:
            connection.send(None)
        for process in processes:
            process.join(10)
