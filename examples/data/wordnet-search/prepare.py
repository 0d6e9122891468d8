"""Make this folder and ../wordnet-rerank from WordNet 3.0's database files (see the README.md).

python prepare.py path/to/wordnet
"""

import json
import random
import sys
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

DOCUMENTS = 10_200
QUERIES = {"eval": 1_500, "train": 4_000}
RERANKED = {"eval": (500, 19), "train": (4_000, 4)}  # queries, and wrong passages for each
LENGTHS = range(15, 121)  # characters of a definition
TAXA = "07992450"  # "genus", "family": all their definitions are alike


class Noun(NamedTuple):
    """A synset: words of one meaning, its definition, and the synsets above it."""

    offset: str
    words: tuple[str, ...]
    definition: str
    parents: tuple[str, ...]

    @property
    def query(self) -> str:
        return ", ".join(self.words)


def nouns(database: Path) -> dict[str, Noun]:
    """Return offset -> noun, from data.noun."""
    found = {}
    for line in (database / "data.noun").read_text().splitlines():
        if not line.startswith(" "):
            fields, _, gloss = line.partition(" | ")
            offset, _, _, count, *rest = fields.split()
            end = 2 * int(count, 16)
            links = rest[end:]
            found[offset] = Noun(
                offset,
                tuple(word.replace("_", " ") for word in rest[:end:2]),
                gloss.split('"')[0].strip().rstrip(";:,").strip(),
                tuple(to for kind, to in pairwise(links) if kind in ("@", "@i")),
            )
    return found


def chosen(every: dict[str, Noun]) -> dict[str, Noun]:
    """Return the nouns whose definition is neither a taxon's, nor short, long or another's too."""
    kept, seen = {}, set()
    for noun in every.values():
        taxon = TAXA in ancestors(noun, every)
        if not taxon and len(noun.definition) in LENGTHS and noun.definition not in seen:
            seen.add(noun.definition)
            kept[noun.offset] = noun
    return kept


def ancestors(noun: Noun, every: dict[str, Noun]) -> list[str]:
    """Return the offsets above a noun, nearest first."""
    above = list(noun.parents)
    for offset in above:
        above += [parent for parent in every[offset].parents if parent not in above]
    return above


class Hierarchy:
    """The nouns by what is directly below each."""

    def __init__(self, every: dict[str, Noun]) -> None:
        self.every = every
        self.below: dict[str, list[str]] = {}
        for noun in every.values():
            for parent in noun.parents:
                self.below.setdefault(parent, []).append(noun.offset)

    def near(self, noun: Noun, random_: random.Random) -> Iterator[str]:
        """Yield the other offsets: sisters, then cousins; in random order if equally near."""
        seen = {noun.offset}
        for offset in ancestors(noun, self.every):
            level = [offset]
            while level:
                level = [child for parent in level for child in self.below.get(parent, [])]
                fresh = sorted(set(level) - seen)
                seen.update(fresh)
                yield from random_.sample(fresh, len(fresh))


def grouped(
    asked: list[Noun], wrong: int, kept: dict[str, Noun], tree: Hierarchy, random_: random.Random
) -> list[dict[str, object]]:
    """Return rows of a reranker: for each query its definition and `wrong` ones near to it."""
    rows = []
    for noun in asked:
        others = (kept[offset] for offset in tree.near(noun, random_) if offset in kept)
        passages = [(noun, 1), *((other, 0) for other in islice(others, wrong))]
        random_.shuffle(passages)
        rows += [
            {"query": noun.query, "passage": one.definition, "relevance": relevance}
            for one, relevance in passages
        ]
    return rows


def write(path: Path, rows: list[dict[str, object]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path.parent.name}/{path.name}: {len(rows)} rows")


def main(database: Path, here: Path) -> None:
    """Write all files: queries are the nouns with two words or more; seed 0."""
    every = nouns(database)
    kept = chosen(every)
    tree = Hierarchy(every)
    random_ = random.Random(0)
    order = random_.sample(sorted(kept), len(kept))
    asked, queries = [], set()
    for noun in (kept[offset] for offset in order):
        if len(noun.words) > 1 and noun.query.lower() not in queries:
            queries.add(noun.query.lower())
            asked.append(noun)
    splits = {}
    for name, count in QUERIES.items():
        splits[name], asked = asked[:count], asked[count:]
    corpus = {noun.offset: noun for part in splits.values() for noun in part}
    for offset in order:
        if len(corpus) < DOCUMENTS:
            corpus.setdefault(offset, kept[offset])
    write(
        here / "corpus.jsonl",
        [{"id": f"n{offset}", "text": corpus[offset].definition} for offset in sorted(corpus)],
    )
    write(
        here / "train.jsonl",
        [{"query": noun.query, "positive": noun.definition} for noun in splits["train"]],
    )
    write(
        here / "eval.jsonl",
        [{"query": noun.query, "positive": f"n{noun.offset}"} for noun in splits["eval"]],
    )
    for name, (count, wrong) in RERANKED.items():
        rows = grouped(splits[name][:count], wrong, kept, tree, random_)
        write(here.parent / "wordnet-rerank" / f"{name}.jsonl", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).resolve().parent)
