"""Make train.jsonl and eval.jsonl from WordNet 3.0's database files (see the README.md here).

python prepare.py path/to/wordnet
"""

import json
import random
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

CONCEPTS = {
    "00002684": "object",
    "00004258": "living thing",
    "00007846": "person",
    "00015388": "animal",
    "01471682": "vertebrate",
    "00017222": "plant",
    "05220461": "body part",
    "00021939": "artifact",
    "03575240": "instrumentality",
    "04341686": "structure",
    "00020827": "matter",
    "00021265": "food",
    "00027167": "location",
    "00029677": "process",
    "00002137": "abstraction",
    "00031264": "group",
    "00029378": "event",
    "00030358": "act",
    "00023271": "cognition",
    "00033020": "communication",
    "00024264": "attribute",
    "00024720": "state",
    "00033615": "quantity",
    "00031921": "relation",
}
"""Offset in data.noun of each concept that is a label, and the label."""

TAXA = "07992450"  # "genus", "family": their definitions name the label, so they are left out
LENGTHS = range(15, 141)  # characters of a definition
ROWS = {"eval": 1500, "train": 6000}


def main(database: Path, here: Path) -> None:
    """Write both splits: nouns with a label, each definition once, seed 0."""
    words, parents, definitions = {}, {}, {}
    for line in (database / "data.noun").read_text().splitlines():
        if not line.startswith(" "):
            fields, _, gloss = line.partition(" | ")
            offset, _, _, count, word, *rest = fields.split()
            links = rest[2 * int(count, 16) :]
            words[offset] = word.replace("_", " ")
            parents[offset] = [above for kind, above in pairwise(links) if kind in ("@", "@i")]
            definitions[offset] = gloss.split('"')[0].strip().rstrip(";:,").strip()

    @cache
    def ancestors(offset: str) -> frozenset[str]:
        above = parents[offset]
        return frozenset(above).union(*map(ancestors, above))

    rows, seen = [], set()
    for offset, word in words.items():
        labels = [label for concept, label in CONCEPTS.items() if concept in ancestors(offset)]
        definition = definitions[offset]
        usable = TAXA not in ancestors(offset) and len(definition) in LENGTHS
        if labels and usable and definition not in seen:
            seen.add(definition)
            rows.append({"text": f"{word}: {definition}", "labels": labels})
    random.Random(0).shuffle(rows)
    for name, count in ROWS.items():
        part, rows = rows[:count], rows[count:]
        with (here / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in part:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}.jsonl: {len(part)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
