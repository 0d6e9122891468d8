"""Count the tokens of the rows, once per data digest and tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.stage import corpus
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task
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

    def warnings(self, limit: int, *, windows: bool = False) -> list[str]:
        """Return a warning for every split with rows truncated at ``limit`` tokens.

        ``windows``: such rows are read in windows instead.
        """
        how = "read in windows" if windows else "truncated"
        return [
            f"{name}: {plural(rows, 'row')} longer than max_length ({limit} tokens), {how}"
            for name, rows in self.over.items()
            if rows
        ]


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
