"""What each option of ``distill`` gives a student, at equal tokens: a part of ``ablation``.

The teachers are the first three fine-tunes of each task of ``benchmarks.merging``, and the students
three of their six layers, which learn the same rows for as many epochs. An option is compared with
the plain student of the same teacher and seed, on the same eval rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.merging import (
    SETTINGS,
    Setting,
    blocks_of,
    checkpoints,
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
PLAIN: dict[str, Any] = {"keep_layers": 3, "epochs": 5, "learning_rate": 3e-4, "batch_size": 32}
OPTIONS: dict[str, dict[str, Any]] = {
    "hidden states": {"hidden_weight": 1},
    "answers alone": {"alpha": 1},
    "labels alone": {"alpha": 0},
    "temperature 1": {"temperature": 1},
    "temperature 4": {"temperature": 4},
    "dropout": {"dropout": 0.1},
    "best on dev": {"keep": "best"},
    "ReLU": {"activation": "relu"},
}
EVERYWHERE = ("hidden states",)
"""The options that are tried on each task; the others on reviews alone."""


def options_of(name: str) -> list[str]:
    """Return the options that are tried on a task."""
    return list(OPTIONS) if name == "reviews" else list(EVERYWHERE)


def recipe(setting: Setting, home: Path, seed: int, options: list[str]) -> dict[str, Any]:
    """Return the recipe that makes a teacher, the plain student, and one with each option."""
    teacher = {"finetune": setting.finetune, "as": "teacher", "seed": seed}
    plain = {"distill": PLAIN, "as": "plain", "from": "teacher", "seed": seed}
    stages: list[Any] = [teacher, plain]
    for option in options:
        learns = {**PLAIN, **OPTIONS[option]}
        student = {"distill": learns, "as": step_of(option)}
        stages.append({**student, "from": "teacher", "seed": seed})
    return {
        "name": f"options-{setting.data}-{seed}",
        "model": MINILM,
        "task": setting.task,
        "data": {**rows_of(setting, home), **setting.columns},
        "stages": stages,
    }


def measured(home: Path, name: str) -> list[dict[str, Any]]:
    """Train a task's students, and return a row for each option.

    ``home``: the benchmark's folder, which may be that of ``benchmarks.merging``.
    """
    options = options_of(name)
    scores: dict[str, list[Score]] = {}
    blocks = 0
    for seed in SEEDS:
        plan, folders = checkpoints(recipe(SETTINGS[name], home, seed, options), home)
        split = plan.splits["eval"]
        blocks = blocks_of(plan, split)
        notes = home / "answers" / f"options-{name}-{seed}"
        for step, folder in folders.items():
            if step != "model":
                scores.setdefault(step, []).append(score(plan, folder, split, notes))
    rows = []
    for option in options:
        ours, plain = scores[step_of(option)], scores["plain"]
        more = gain(ours, [[one] for one in plain], blocks, len(OPTIONS))
        facts = {
            "task": name,
            "option": option,
            "seeds": SEEDS,
            "teacher": [value(one, blocks) for one in scores["teacher"]],
            "plain": [value(one, blocks) for one in plain],
            "scores": [value(one, blocks) for one in ours],
            "points": more,
        }
        rows.append({**facts, **here()})
    return rows


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
        is_at_least(more, 0.0),
    )
