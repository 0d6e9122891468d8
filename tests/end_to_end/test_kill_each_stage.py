"""kill -9 in the middle of each stage in turn: the next run resumes where the last one died."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.conftest import Workshop
from tests.end_to_end.test_crash import assert_whole

STAGES = (
    {"inject": {"facts": "facts.tsv", "epochs": 1}},
    {"finetune": {"epochs": 1}},
    {"augment": {"spans": 2}},
    {"label": {"transfer": "augment"}},
    {"distill": {"keep_layers": 1, "epochs": 1, "transfer": "label", "keep": "best"}},
    {"prune": {"remove_neurons": "25 %", "calibration_rows": 8}},
    {"factorize": {"keep_weights": 0.95, "calibration_rows": 8}},
    {"adapt": {"epochs": 1, "rank": 2}},
    {"quantize": {"calibration_rows": 8}},
    "merge",
    "export",
    {
        "validate": {
            "models": ["finetune"],
            "processes": 2,
            "seconds": 0.5,
            "memory": False,
            "cold_starts": 0,
            "fastest_float": False,
        }
    },
)
DRIVER = """
# Imports once; every run is a separate process, forked before anything is computed.
import json, os, signal, sys
from pathlib import Path

import onnxruntime, peft, torch, transformers

from rarefy.exporters import build
from rarefy.pipeline.recipe import recipe
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.run.plan.plan import MODEL, Plan
from rarefy.pipeline.store.store import Store
from rarefy.stages.training import loop as trainer

STEPS = (MODEL, *(step.id for step in recipe.load(Path(sys.argv[1])).steps))


def attempt(victim):
    store = Store(Path(sys.argv[2]))
    run = Run(Plan(recipe.load(Path(sys.argv[1])), store, threads=1))
    run.plan.steps()

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    for identifier in STEPS:
        def progress(done, total, note):
            if identifier == victim and any((store.root / "tmp").iterdir()):
                die()

        if identifier == victim:
            store.publish = die  # stages without progress die here
        finished = run.execute(identifier, progress)
        print(json.dumps([identifier, finished.artifact.digest, finished.cached]), flush=True)


for victim in (*STEPS, None):
    child = os.fork()
    if child == 0:
        attempt(victim)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(json.dumps(["ended", victim, os.waitstatus_to_exitcode(status)]), flush=True)
"""


def test_a_kill_in_the_middle_of_each_stage(workshop: Workshop) -> None:
    workshop.widen()
    facts = [f"w{number}\thypernym\tmood" for number in range(20)]
    text = "\n".join(["subject\trelation\tobject", *facts])
    (workshop.folder / "facts.tsv").write_text(text + "\n")
    recipe = workshop.recipe(*STAGES)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(recipe), str(workshop.store.root)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs: list[list[list[object]]] = [[]]
    ends = []
    for line in map(json.loads, done.stdout.splitlines()):
        if line[0] == "ended":
            ends.append(line[1:])
            runs.append([])
        else:
            runs[-1].append(line)
    steps = ["model", *(s if isinstance(s, str) else next(iter(s)) for s in STAGES)]
    assert ends == [*([step, -9] for step in steps), [None, 0]], done.stderr
    made: dict[object, object] = {}
    for count, run in enumerate(runs[:-1]):
        # Complete artifacts are reused; the killed one is made again, never seen half-written.
        assert [step for step, _, _ in run] == steps[:count], done.stderr
        for step, digest, cached in run:
            assert made.setdefault(step, digest) == digest
            assert cached is (step != steps[count - 1])
    assert_whole(workshop)
    assert len(workshop.store.digests()) == len(steps)
