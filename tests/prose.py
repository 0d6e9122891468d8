"""Measure the prose of pages: sentence length, semicolons and brackets.

python -m tests.prose           # the measures of every page
python -m tests.prose --write   # lower the limits of pages that have improved
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMITS = ROOT / "tests/prose.json"
"""Pages that do not meet ``AIM``, with their measures, which may only fall."""
GENERATED = ("docs/benchmarks/", "docs/reference/stages/")
GENERATED_PAGES = {"recipe", "metrics", "commands"}
DECISIONS = ROOT / "docs/project/decisions"
"""Its many short pages are measured together."""
CODE_BLOCK = re.compile(r"^( *)(```|~~~).*?^\1\2$", re.DOTALL | re.MULTILINE)
NEVER_ENDS = re.compile(r"\b(e\.g|i\.e|vs|al|No)\. ")


@dataclass(frozen=True)
class Measures:
    """The measures of a page.

    Args:
        mean: words of a sentence, on average.
        long: share of sentences with more than 30 words.
        semicolons: per 1,000 words.
        brackets: per 1,000 words.
    """

    mean: float
    long: float
    semicolons: float
    brackets: float

    def exceeds(self, limit: Measures) -> bool:
        """Return whether any measure is above its limit."""
        pairs = zip(asdict(self).values(), asdict(limit).values(), strict=True)
        return any(value > bound + 1e-9 for value, bound in pairs)


AIM = Measures(mean=16, long=0.05, semicolons=1, brackets=8)


def pages() -> dict[str, str]:
    """Return the text of each page that is written by hand, by its name."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = dict[str, str]()
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        generated = path.parent.name == "reference" and path.stem in GENERATED_PAGES
        if name.startswith(GENERATED) or generated:
            continue
        if path.parent == DECISIONS:
            name = DECISIONS.relative_to(ROOT).as_posix()
        texts[name] = f"{texts.get(name, '')}\n\n{path.read_text()}"
    return texts


def prose(text: str) -> str:
    """Return a page's sentences: without code, tables, headings, addresses and markup."""
    text = CODE_BLOCK.sub("", text)
    text = re.sub(r"^(\||#| *:::|!\[).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`+[^`\n]*`+", "CODE", text)
    return NEVER_ENDS.sub(r"\1 ", text)


def sentences(text: str) -> list[str]:
    """Return the sentences of a page's prose; list items and paragraphs end one."""
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", prose(text))
    found = []
    for block in blocks:
        words = re.sub(r"^\s*(?:[-*]|\d+\.) ", "", " ".join(block.split()) + " ")
        found += [part for part in re.split(r"(?<=[.!?])\**\)? ", words) if part.split()]
    return found


def measure(text: str) -> Measures:
    """Return the measures of a page."""
    parts = sentences(text)
    lengths = [len(part.split()) for part in parts] or [0]
    words = max(sum(lengths), 1)
    joined = " ".join(parts)
    return Measures(
        mean=round(words / len(lengths), 1),
        long=round(sum(length > 30 for length in lengths) / len(lengths), 3),
        semicolons=round(1000 * joined.count(";") / words, 1),
        brackets=round(1000 * joined.count("(") / words, 1),
    )


def limits() -> dict[str, Measures]:
    """Return the limits of the pages that do not meet ``AIM``."""
    return {name: Measures(**values) for name, values in json.loads(LIMITS.read_text()).items()}


def write() -> None:
    """Write the limits again: a page's present measures, where it does not meet ``AIM``."""
    values = {}
    for name, text in pages().items():
        measures = measure(text)
        if measures.exceeds(AIM):
            values[name] = asdict(measures)
    LIMITS.write_text(json.dumps(values, indent=1) + "\n")


def main() -> None:
    """Print the measures of every page."""
    if sys.argv[1:] == ["--write"]:
        write()
    total = 0
    for name, text in pages().items():
        measures = measure(text)
        words = sum(len(part.split()) for part in sentences(text))
        total += words
        mark = "!" if measures.exceeds(AIM) else " "
        values = (measures.mean, 100 * measures.long, measures.semicolons, measures.brackets)
        numbers = "  ".join(f"{value:5.1f}" for value in values)
        print(f"{mark} {words:5} {numbers}  {name}")
    print(f"{total} words")


if __name__ == "__main__":
    main()
