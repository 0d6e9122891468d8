"""What each option of ``distill`` gives a student, at equal tokens: a part of ``ablation``.

The teachers are the first three fine-tunes of the reviews of ``benchmarks.merging``, and the
students three of their six layers, which learn the same rows for as many epochs. An option is
compared with the plain student of the same teacher and seed, on the same eval rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.merging import (
    LEAST,
    SETTINGS,
    blocks_of,
    checkpoints,
    fine_tunes,
    gain,
    rows_of,
    score,
    value,
)
from benchmarks.record import Claim, here, in_words, is_at_least
from benchmarks.students import MINILM
from rarefy.pipeline.tasks.shared.formulas import Score
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.wording import plural

SEEDS = (0, 1, 2)
TASK = "reviews"
SETTING = SETTINGS[TASK]
PLAIN: dict[str, Any] = {"keep_layers": 3, "epochs": 4, "learning_rate": 3e-4, "batch_size": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "answers alone": {"alpha": 1},
    "temperature 1": {"temperature": 1},
    "best on dev": {"keep": "best"},
}


def recipe(home: Path, seed: int, option: str) -> dict[str, Any]:
    """Return the recipe that makes a teacher, the plain student, and one with an option."""
    teacher = fine_tunes(SETTING, SEEDS)[seed]
    student = {"distill": {**PLAIN, **OPTIONS[option]}, "as": step_of(option)}
    return {
        "name": f"options-{SETTING.data}-{seed}",
        "model": MINILM,
        "task": SETTING.task,
        "data": {**rows_of(SETTING, home), **SETTING.columns},
        "stages": [
            teacher,
            {"distill": PLAIN, "as": "plain", "seed": seed},
            {**student, "from": teacher["as"], "seed": seed},
        ],
    }


def measured(home: Path, option: str) -> dict[str, Any]:
    """Train the students with and without an option, and return what they came to.

    ``home`` is the benchmark's folder, which may be that of ``benchmarks.merging``.
    """
    scores: dict[str, list[Score]] = {}
    blocks = 0
    for seed in SEEDS:
        values = recipe(home, seed, option)
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
        "task": TASK,
        "option": option,
        "seeds": SEEDS,
        "comparisons": len(OPTIONS),
        "teacher": [value(one, blocks) for one in scores["teacher"]],
        "plain": [value(one, blocks) for one in plain],
        "scores": [value(one, blocks) for one in ours],
        "points": gain(ours, [[one] for one in plain], blocks, len(OPTIONS)),
    }
    return {**facts, **here()}


def step_of(option: str) -> str:
    """Return the id of the step that makes the student with an option."""
    return option.lower().replace(" ", "-")


def claim(row: dict[str, Any]) -> Claim:
    """Compare an option with the plain student, over the seeds."""
    more = Interval(*row["points"])
    seeds = plural(len(row["seeds"]), "seed")
    return Claim(
        f"{row['task']}: {row['option']} against the plain student, at equal tokens",
        f"better in {seeds}, allowing for all options",
        in_words(more),
        is_at_least(more, LEAST),
    )
