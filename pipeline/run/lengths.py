"""Rows over the recipe's length limit: counted once for these bytes and this tokenizer."""

from __future__ import annotations

from pathlib import Path

from pipeline.stage.data import Split
from pipeline.stage.tasks import Task
from pipeline.terms.digests import value_sha256
from pipeline.terms.progress import Progress
from pipeline.terms.wording import plural

BATCH = 1000


def key(data_digest: str, model_digest: str, task: str) -> str:
    """Return the key of the note that keeps the counts: it names all they depend on."""
    value = {"data": data_digest, "model": model_digest, "task": task}
    return f"lengths-{value_sha256(value)}"


def count(
    directory: Path, task: Task, splits: dict[str, Split], progress: Progress
) -> dict[str, int]:
    """Return split -> how many of its rows the tokenizer in ``directory`` makes too long."""
    from pipeline.model import checkpoint

    tokenizer = checkpoint.load_tokenizer(directory)
    over = {}
    for name, split in splits.items():
        over[name] = 0
        for start in range(0, len(split), BATCH):
            rows = range(start, min(start + BATCH, len(split)))
            lengths = task.lengths(tokenizer, split, rows)
            over[name] += sum(length > task.max_length for length in lengths)
            progress(rows.stop, len(split), f"{name}: counting tokens")
    return over


def warnings(over: dict[str, int], limit: int) -> list[str]:
    """Return a sentence for every split with rows that are cut at ``limit`` tokens."""
    return [
        f"{name}: {plural(rows, 'row')} longer than max_length ({limit} tokens), cut there"
        for name, rows in over.items()
        if rows
    ]
