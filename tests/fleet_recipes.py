"""Recipes of a fleet's tests: quick ones that pass, miss, measure, try twice, are slow, or hang."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tests.fleet import Fleet
from tests.models import write_encoder
from tests.project import STAGES, write_rows

OWN = (
    STAGES
    + '''

class Slow(Head):
    """Train for a moment, after some seconds."""

    name: ClassVar[str] = "slow"
    seconds: float

    def run(self, context, model):
        import time

        time.sleep(self.seconds)
        return super().run(context, model)


class Flaky(Head):
    """Lose the connection at the first attempt."""

    name: ClassVar[str] = "flaky"

    def run(self, context, model):
        if not (context.work / "tried").exists():
            (context.work / "tried").touch()
            raise ConnectionResetError("the line is dead")
        return super().run(context, model)


class Measure(Judge):
    """Measure for some seconds, in every run anew, and alone on the machine."""

    name: ClassVar[str] = "measure"
    policy: ClassVar[Policy] = Policy(timed=True)
    seconds: float = 5

    def run(self, context, model):
        import dataclasses
        import json
        import time

        began = time.time()
        time.sleep(self.seconds)
        times = json.dumps([began, time.time()])
        (context.output / "times.json").write_text(times)
        return dataclasses.replace(super().run(context, model), lasts=False)
'''
)
PASSES = "budgets:\n  - {metric: accuracy, min: 50 %}\n"
MISSED = PASSES + "  - {metric: size, max: 0.5 kB}\n"
VALIDATE = (
    "validate: {processes: 2, seconds: 1, memory: false, cold_starts: 0, fastest_float: false}"
)


def make(fleet: Fleet) -> None:
    """Write what all recipes need: a model, data, and stages beside them."""
    write_encoder(fleet.desk / "encoder")
    write_rows(fleet.desk / "train.jsonl", 40, 0)
    write_rows(fleet.desk / "eval.jsonl", 20, 1)
    (fleet.desk / "fleetstages.py").write_text(OWN)


def recipe(fleet: Fleet, name: str, *stages: str, budgets: str = PASSES) -> Path:
    lines = "\n".join(f"  - {stage}" for stage in stages)
    text = f"""\
    name: {name}
    model: encoder
    data: {{train: train.jsonl, eval: eval.jsonl}}
    stages:
    """
    path = fleet.desk / f"{name}.yaml"
    path.write_text(textwrap.dedent(text) + f"{lines}\n{budgets}")
    return path
