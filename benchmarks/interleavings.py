"""Random interleavings of run, tag, promote, rollback, push, pull and gc by four processes.

The processes work on one store and one remote: an S3 server (moto) that this module starts, or in
every fifth interleaving a folder. Each interleaving has a fresh store, a fresh place for the remote
and its own seed; the processes stay.
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
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.at_random import Log, Process, make_project

COUNT = 500
PROCESSES = 4
BUCKET = "models"
LIMITS = (
    "moto's server checks If-Match and then writes, in threads of one process. It does not show "
    "that a real service does both in one step, what happens if a region fails over, or that a "
    "service that only resembles S3 knows the condition at all. It keeps checksums unchecked."
)


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
        make_project(project)
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
    shutil.rmtree(home, ignore_errors=True)  # of one that was stopped half way
    (home / "runs").mkdir(parents=True)
    remote = (home / "remote").as_uri() if number % 5 == 4 else f"{url}/{seed}-{number}"
    for at, worker in enumerate(workers):
        worker.send((f"{seed}-{number}-{at}", str(home), remote))
    outcomes: Counter[str] = Counter()
    violations: list[str] = []
    written: set[tuple[str, str, float]] = set()
    undone: set[tuple[str, str, float]] = set()
    for worker in workers:
        report = worker.recv()
        outcomes.update(report["outcomes"])
        violations += report["violations"]
        written |= {tuple(move) for move in report["written"]}
        undone |= {tuple(move) for move in report["undone"]}
    workers[0].send(("check", str(home), remote))
    check = workers[0].recv()
    violations += check["violations"]
    moves = {tuple(move) for move in check["moves"]}
    violations += [f"a move was lost: {move}" for move in sorted(written - undone - moves)]
    violations += [f"a move that nobody made: {move}" for move in sorted(moves - written)]
    return {
        "number": number,
        "remote": remote.partition(":")[0],
        "outcomes": dict(sorted(outcomes.items())),
        "moves": len(moves),
        "violations": violations,
        "seconds": round(time.perf_counter() - began, 2),
    }


# A process


def _work(connection: Connection, project: Path) -> None:
    """Carry out what comes through the connection, until None comes."""
    os.chdir(project)
    log = Log()
    while (task := connection.recv()) is not None:
        job, home, remote = task
        try:
            if job == "check":
                connection.send(_check(Path(home), remote))
            else:
                connection.send(Process(job, project, Path(home), remote, log).work())
        except Exception as error:
            connection.send(_empty() | {"violations": [f"{job}: {error!r}"]})


def _empty() -> dict[str, Any]:
    return {"outcomes": {}, "violations": [], "written": [], "undone": [], "moves": []}


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
