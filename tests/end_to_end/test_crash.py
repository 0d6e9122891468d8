"""kill -9 anywhere: the next run resumes, and no artifact is lost or visible half-written."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.store.garbage import Collector
from rarefy.stages.training import loop as trainer
from tests.conftest import Workshop

DRIVER = """
import json, sys, time
from pathlib import Path

from rarefy.pipeline.store import disk, store as stores
from rarefy.pipeline.recipe import recipe
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.run.plan.plan import MODEL, Plan

recipe_path, stop = Path(sys.argv[1]), sys.argv[2]


def pause_before(owner, name, word, applies):
    plain = getattr(owner, name)

    def wrapped(*arguments, **named):
        if stop == word and applies(*arguments):
            print("here", flush=True)
            time.sleep(120)
        return plain(*arguments, **named)

    setattr(owner, name, wrapped)


def in_work(path, **named):
    return path.parent.name == "work"


def is_score(store, key, value):
    return key.startswith("score")


is_index = lambda path, value: path.parent.name == "fingerprints"
is_artifact = lambda path, target: target.parent.name == "sha256"
pause_before(stores.Store, "publish", "before publishing", lambda *a: True)
pause_before(disk, "sync", "while syncing", lambda path: path.name == "manifest.json")
pause_before(disk, "write", "before the index entry", is_index)
pause_before(Path, "rename", "before the rename", is_artifact)
pause_before(stores.shutil, "rmtree", "after the rename", in_work)
pause_before(stores.Store, "keep_note", "before the score is kept", is_score)
if stop == "training":
    from rarefy.stages.training import loop as trainer

    trainer.pause = lambda *_: 0.0

run = Run(Plan(recipe.load(recipe_path), stores.Store(recipe_path.parent / "store"), threads=1))
run.plan.steps()
for identifier in (MODEL, *(step.id for step in run.plan.loaded.steps)):
    done = run.execute(identifier)
    print(json.dumps([identifier, done.artifact.digest, done.cached]), flush=True)
"""

POINTS = (
    "before publishing",
    "while syncing",
    "before the index entry",
    "before the rename",
    "after the rename",
)


def start(workshop: Workshop, *stages, stop: str = "nowhere") -> subprocess.Popen[str]:
    recipe = workshop.recipe(*stages)
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(recipe), stop],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    for stream in (process.stdout, process.stderr):
        stream.close()


def until_here(process: subprocess.Popen[str]) -> list[str]:
    """Read the process's output until it stops at its point."""
    said = []
    while (line := process.stdout.readline()) != "here\n":
        assert line, process.stderr.read()
        said.append(line)
    return said


def wait_until(condition, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def assert_whole(workshop: Workshop) -> None:
    """Everything visible in the store is complete."""
    store = workshop.store
    assert {digest: store.verify(digest) for digest in store.digests()} == {
        digest: [] for digest in store.digests()
    }
    for entry in (store.root / "fingerprints").glob("*.json"):
        store.lookup(entry.stem)


def word(text: str, **more) -> dict:
    return {"quick:Word": {"word": text, **more}, "as": text}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_while_publishing(workshop, point):
    workshop.run(word("one"))
    process = start(workshop, word("one"), word("two"), stop=point)
    said = until_here(process)
    kill(process)
    assert [json.loads(line)[2] for line in said] == [True, True], "model and one were there"
    assert_whole(workshop)
    finished = workshop.run(word("one"), word("two"))
    assert finished["two"].cached is (point == "after the rename")
    assert workshop.ran().count("one") == 1
    assert workshop.ran().count("two") == (1 if point == "after the rename" else 2)
    assert_whole(workshop)
    collector = Collector(workshop.store, days=0)
    for found in collector.find():
        if found.kind != "artifact":
            assert collector.delete(found)
    for place in ("tmp", "work"):
        assert list((workshop.store.root / place).iterdir()) == []


def test_a_kill_in_the_middle_of_a_stage(workshop):
    workshop.run(word("one"))
    process = start(workshop, word("one"), word("slow", seconds=120))
    work = workshop.store.root / "work"
    wait_until(lambda: any(path.read_text() for path in work.glob("*/progress")))
    kill(process)
    assert_whole(workshop)
    run = workshop.open(word("one"), word("slow", seconds=120))
    assert [step.cached for step in run.plan.steps()] == [True, True, False]
    (kept,) = work.iterdir()
    assert (kept / "progress").read_text() == "slow", "what the stage saved is there for the next"


def test_a_kill_while_a_model_is_scored(workshop):
    workshop.run("quick:Word")
    process = start(workshop, "quick:Head", stop="before the score is kept")
    until_here(process)
    kill(process)
    assert_whole(workshop)
    head = workshop.run("quick:Head")["head"]
    assert head.cached, "the work was done; only the score was not"
    assert head.scores[0].name == "accuracy"
    assert workshop.ran().count("head") == 1


def test_a_kill_in_the_middle_of_a_real_training_goes_on(workshop):
    finetune = {"finetune": {"epochs": 8, "batch_size": 2}}
    workshop.run("quick:Word")
    process = start(workshop, finetune, stop="training")
    work = workshop.store.root / "work"
    wait_until(lambda: any(work.rglob(trainer.WHOLE)))
    kill(process)
    assert_whole(workshop)
    run: Run = workshop.open(finetune)
    assert [step.cached for step in run.plan.steps()] == [True, False]
    steps = []
    run.execute("model")
    run.execute("finetune", lambda done, total, note: steps.append(done / total if total else 0))
    assert steps[0] > 0, "it does not begin at the beginning"
    assert_whole(workshop)
    assert list(work.iterdir()) == []


def test_kills_at_any_time(workshop):
    stages = [word(name, seconds=0.05) for name in ("one", "two", "three", "four")]
    workshop.run(word("zero"))
    draw = random.Random(0)
    for _ in range(6):
        process = start(workshop, *stages)
        process.stdout.readline()
        time.sleep(draw.random() * 0.5)
        kill(process)
        assert_whole(workshop)
    finished = workshop.run(*stages)
    assert [step.artifact.path("word.txt").read_text() for step in list(finished.values())[1:]] == [
        "one",
        "two",
        "three",
        "four",
    ]
    assert_whole(workshop)


def test_two_processes_at_once_do_every_stage_once(workshop):
    words = (word("one", seconds=0.5), word("two", seconds=0.5))
    stages = (*words, {"quick:Head": {}, "from": "model"})
    both = [start(workshop, *stages) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    first, second = ([json.loads(line) for line in out.splitlines()] for out, _ in outputs)
    assert [row[:2] for row in first] == [row[:2] for row in second], "the same artifacts"
    for mine, theirs in zip(first, second, strict=True):
        assert mine[2] + theirs[2] == 1, "one made it, the other found it"
    assert sorted(workshop.ran()) == ["head", "one", "two"]
    assert_whole(workshop)


def test_a_lock_of_a_killed_process_is_free(workshop):
    workshop.run(word("one"))
    process = start(workshop, word("one"), word("slow", seconds=120))
    wait_until(lambda: "slow" in workshop.ran())
    kill(process)
    fingerprint = workshop.open(word("one"), word("slow", seconds=120)).plan.steps()[-1].fingerprint
    waited = []
    with workshop.store.lock(fingerprint, lambda: waited.append(True)):
        pass
    assert waited == []
    assert Path(workshop.store.root / "locks" / fingerprint).exists()
