"""What each option of ``distill`` gives a student, at equal tokens: a part of ``ablation``.

The teachers are the first three fine-tunes of each task of ``benchmarks.merging``, and the students
three of their six layers, which learn the same rows for as many epochs. An option is compared with
the plain student of the same teacher and seed, on the same eval rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
EVERYWHERE = ("hidden states",)
"""The options that are tried on each task; the others on reviews alone."""
EVERY: tuple[tuple[str, str], ...] = (
    *((option, task) for option in EVERYWHERE for task in SETTINGS),
    *((option, "reviews") for option in OPTIONS if option not in EVERYWHERE),
)
"""What is measured: an option, and a task."""


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
        plan, folders = checkpoints(recipe(SETTINGS[task], home, seed, option), home)
        split = plan.splits["eval"]
        blocks = blocks_of(plan, split)
        notes = home / "answers" / f"options-{SETTINGS[task].data}-{seed}"
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
    option = row["option"]
    parameters = ", ".join(f"{key}: {text}" for key, text in OPTIONS[option].items())
    return Claim(
        f"{row['task']}: {option} ({parameters}) against the plain student, at equal tokens",
        "better in three seeds, allowing for all options",
        f"{more.value:+.2f} points [{more.low:+.2f}, {more.high:+.2f}], {len(row['seeds'])} seeds",
        is_at_least(more, LEAST),
    )
