"""Rows over the recipe's length limit: counted once for these bytes and tokenizer, and said."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.artifact import Artifact, canonical_json
from pipeline.data import rows_said

if TYPE_CHECKING:
    from pipeline.planning import Plan

BATCH = 1000


def count(run: Plan, model: Artifact, progress: Callable[[float, float, str], None]) -> None:
    """Count every split's rows over the limit with the model's tokenizer, and keep the counts."""
    if run.store.note(_key(run, model)) is not None:
        return
    from pipeline import checkpoint

    tokenizer = checkpoint.load_tokenizer(model.directory)
    over = {}
    for name, split in run.splits.items():
        over[name] = 0
        for start in range(0, len(split), BATCH):
            rows = range(start, min(start + BATCH, len(split)))
            lengths = run.task.lengths(tokenizer, split, rows)
            over[name] += sum(length > run.task.max_length for length in lengths)
            progress(rows.stop, len(split), f"{name}: counting tokens")
    run.store.keep_note(_key(run, model), over)


def warnings(run: Plan, model: Artifact) -> list[str]:
    """Return a sentence for every split with rows that are cut; none before they are counted."""
    over: dict[str, int] = run.store.note(_key(run, model)) or {}
    limit = run.loaded.recipe.data.max_length
    return [
        f"{name}: {rows_said(rows)} longer than max_length ({limit} tokens), cut there"
        for name, rows in over.items()
        if rows
    ]


def _key(run: Plan, model: Artifact) -> str:
    value = {"data": run.data_digest, "model": model.digest, "task": run.loaded.recipe.task}
    return f"lengths-{hashlib.sha256(canonical_json(value)).hexdigest()}"
