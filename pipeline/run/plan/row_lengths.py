"""Count the rows that are longer than the limit, once per data digest and tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.bases import TAUGHT
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.progress import Progress
from rarefy.pipeline.terms.wording import plural

BATCH = 1000
VERSION = 4


@dataclass
class Lengths:
    """The number of rows of each split that are longer than ``max_length`` tokens."""

    over: dict[str, int] = field(default_factory=dict)

    def warnings(self, task: Task) -> list[str]:
        """Return a warning for every split with rows that are longer than a task's limit.

        It says whether they are truncated or read in windows.
        """
        warnings = []
        for name, rows in self.over.items():
            if not rows:
                continue
            in_windows = task.encoder.of_words or (task.windows and name not in TAUGHT)
            how = "read in windows" if in_windows else "truncated"
            limit = f"max_length ({task.max_length} tokens)"
            warnings.append(f"{name}: {plural(rows, 'row')} longer than {limit}, {how}")
        return warnings


def key(data_digest: str, model_digest: str, task: str) -> str:
    """Return the key under which the store keeps the counts: it covers all they depend on."""
    value = {"version": VERSION, "data": data_digest, "model": model_digest, "task": task}
    return f"lengths-{value_sha256(value)}"


def count(directory: Path, task: Task, splits: dict[str, Split], progress: Progress) -> Lengths:
    """Count the rows that are too long, with the tokenizer in ``directory``."""
    from rarefy.pipeline.model import checkpoint

    tokenizer = checkpoint.load_tokenizer(directory)
    over: dict[str, int] = {}
    for name, split in splits.items():
        over[name] = 0
        for start in range(0, len(split), BATCH):
            rows = range(start, min(start + BATCH, len(split)))
            lengths = task.encoder.lengths(tokenizer, split, rows)
            over[name] += sum(length > task.max_length for length in lengths)
            progress(rows.stop, len(split), f"{name}: counting tokens")
    return Lengths(over)
