"""What each option of ``distill`` gives a student, at equal tokens: a part of ``ablation``.

The teachers are the first three fine-tunes of each task of ``benchmarks.merging``, and the students
three of their six layers, which learn the same rows for as many epochs. An option is compared with
the plain student of the same teacher and seed, on the same eval rows. Of ``EXAMPLES``, the teacher
and the student are those of the example, with one teacher for all seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks.bundle import ROOT
from benchmarks.merging import (
    LEAST,
    SETTINGS,
    Setting,
    blocks_of,
    checkpoints,
    fine_tunes,
    gain,
    rows_of,
    score,
    value,
)
from benchmarks.record import Claim, here, is_at_least
from benchmarks.students import MINILM
from rarefy.pipeline.tasks.shared.formulas import Score
from rarefy.pipeline.terms.interval import Interval

SEEDS = (0, 1, 2)
PLAIN: dict[str, Any] = {"keep_layers": 3, "epochs": 4, "learning_rate": 3e-4, "batch_size": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "hidden states": {"hidden_weight": 1},
    "answers alone": {"alpha": 1},
    "temperature 1": {"temperature": 1},
    "dropout": {"dropout": 0.1},
    "best on dev": {"keep": "best"},
}
EXAMPLES = ("concepts", "ratings")
"""Recipes of ``examples`` whose students learn hidden states."""
TASKS = ("reviews", "parts of speech", *EXAMPLES)
EVERYWHERE = ("hidden states",)
"""The options that are tried on each task; the others on reviews alone."""
EVERY: tuple[tuple[str, str], ...] = (
    *((option, task) for option in EVERYWHERE for task in TASKS),
    *((option, "reviews") for option in OPTIONS if option not in EVERYWHERE),
)
"""What is measured: an option, and a task."""


def of_example(name: str, seed: int, option: str) -> dict[str, Any]:
    """Return the recipe of an example's teacher, its student without an option, and with it."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text())
    files = {key: str(ROOT / "examples" / values["data"][key]) for key in ("train", "eval")}
    teacher, student, *_ = values["stages"]
    shared = {key: value for key, value in student["distill"].items() if key != "hidden_weight"}
    teacher = {**teacher, "as": f"seed-{seed}", "seed": SEEDS[0]}
    stages = [teacher, {"distill": shared, "as": "plain", "seed": seed}]
    tried = {"distill": {**shared, **OPTIONS[option]}, "as": step_of(option), "seed": seed}
    return {
        "name": f"options-{name}-{seed}",
        "model": values["model"],
        "task": values["task"],
        "data": {**values["data"], **files},
        "stages": [*stages, {**tried, "from": teacher["as"]}],
    }


def recipe(setting: Setting, home: Path, seed: int, option: str) -> dict[str, Any]:
    """Return the recipe that makes a teacher, the plain student, and one with an option."""
    teacher = fine_tunes(setting, SEEDS)[seed - len(SEEDS)]
    student = {"distill": {**PLAIN, **OPTIONS[option]}, "as": step_of(option)}
    return {
        "name": f"options-{setting.data}-{seed}",
        "model": MINILM,
        "task": setting.task,
        "data": {**rows_of(setting, home), **setting.columns},
        "stages": [
            *fine_tunes(setting, SEEDS)[: -len(SEEDS)],
            teacher,
            {"distill": PLAIN, "as": "plain", "seed": seed},
            {**student, "from": teacher["as"], "seed": seed},
        ],
    }


def measured(home: Path, option: str, task: str) -> dict[str, Any]:
    """Train the students of a task with and without an option, and return what they came to.

    Args:
        home: the benchmark's folder, which may be that of ``benchmarks.merging``.
        option: what is tried.
        task: on which.
    """
    scores: dict[str, list[Score]] = {}
    blocks = 0
    for seed in SEEDS:
        if task in EXAMPLES:
            values = of_example(task, seed, option)
        else:
            values = recipe(SETTINGS[task], home, seed, option)
        plan, folders = checkpoints(values, home)
        split = plan.splits["eval"]
        blocks = blocks_of(plan, split)
        notes = home / "answers" / values["name"]
        steps = {"teacher": f"seed-{seed}", "plain": "plain", "option": step_of(option)}
        for role, step in steps.items():
            one = score(plan, folders[step], split, notes)
            scores.setdefault(role, []).append(one)
    ours, plain = scores["option"], scores["plain"]
    facts = {
        "task": task,
        "option": option,
        "seeds": SEEDS,
        "teacher": [value(one, blocks) for one in scores["teacher"]],
        "plain": [value(one, blocks) for one in plain],
        "scores": [value(one, blocks) for one in ours],
        "points": gain(ours, [[one] for one in plain], blocks, len(EVERY)),
    }
    return {**facts, **here()}


def step_of(option: str) -> str:
    """Return the id of the step that makes the student with an option."""
    return option.lower().replace(" ", "-")


def claim(row: dict[str, Any]) -> Claim:
    """Compare an option with the plain student, over the seeds."""
    more = Interval(*row["points"])
    return Claim(
        f"{row['task']}: {row['option']} against the plain student, at equal tokens",
        "better in three seeds, allowing for all options",
        f"{more.value:+.2f} points [{more.low:+.2f}, {more.high:+.2f}], {len(row['seeds'])} seeds",
        is_at_least(more, LEAST),
    )
