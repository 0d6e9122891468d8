"""Count the tokens of the rows, once per data digest and tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.stage import corpus
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task
from pipeline.stage.tasks.sequences import TAUGHT
from pipeline.terms.digests import value_sha256
from pipeline.terms.progress import Progress
from pipeline.terms.wording import plural

BATCH = 1000
VERSION = 3


@dataclass
class Lengths:
    """Per split: rows over the limit, and texts (or windows), their tokens and the longest one's.

    Tokens are counted after truncation.
    """

    over: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)

    def warnings(self, task: Task) -> list[str]:
        """Return a warning for every split with rows that are longer than a task's limit.

        It says whether they are truncated or read in windows.
        """
        said = []
        for name, rows in self.over.items():
            in_windows = task.of_words or (task.windows and name not in TAUGHT)
            how = "read in windows" if in_windows else "truncated"
            long = f"{plural(rows, 'row')} longer than max_length ({task.max_length} tokens)"
            said += [f"{name}: {long}, {how}"] if rows else []
        return said


def key(data_digest: str, model_digest: str, task: str) -> str:
    """Return the key under which the store keeps the counts: it covers all they depend on."""
    value = {"version": VERSION, "data": data_digest, "model": model_digest, "task": task}
    return f"lengths-{value_sha256(value)}"


def count(directory: Path, task: Task, splits: dict[str, Split], progress: Progress) -> Lengths:
    """Count the tokens of all rows with the tokenizer in ``directory``."""
    from pipeline.model import checkpoint

    tokenizer = checkpoint.load_tokenizer(directory)
    found = Lengths()
    for name, split in splits.items():
        found.over[name] = found.texts[name] = found.tokens[name] = found.longest[name] = 0
        for start in range(0, len(split), BATCH):
            rows = range(start, min(start + BATCH, len(split)))
            lengths = task.lengths(tokenizer, split, rows)
            cut = task.texts(tokenizer, split, rows, lengths)
            found.over[name] += sum(length > task.max_length for length in lengths)
            found.texts[name] += len(cut)
            found.tokens[name] += sum(cut)
            found.longest[name] = max(found.longest[name], *cut)
            progress(rows.stop, len(split), f"{name}: counting tokens")
    if corpus.NAME in splits:  # which is read with the queries of eval
        for counts in (found.texts, found.tokens):
            counts["eval"] += counts[corpus.NAME]
    return found
