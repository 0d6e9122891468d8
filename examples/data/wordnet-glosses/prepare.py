"""Make glosses.tsv from WordNet 3.0's database files (see README.md beside this file).

python prepare.py path/to/wordnet ../movie-reviews/train.jsonl
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

PARTS = ("adj", "verb", "noun")
SEEN = 3  # times a word stands in the training text, so that its gloss can matter to it
MOST = 3000


def first_sense(database: Path, part: str) -> dict[str, str]:
    """Return lemma -> the gloss of its most frequent sense, without examples."""
    glosses = {}
    for line in (database / f"data.{part}").read_text().splitlines():
        if not line.startswith(" "):
            glosses[line.split(" ", 1)[0]] = line.split("| ", 1)[1].split('; "')[0].strip()
    senses = {}
    for line in (database / f"index.{part}").read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split()
            pointers = int(fields[3])
            senses[fields[0]] = glosses[fields[6 + pointers]]
    return senses


def main(database: Path, train: Path, here: Path) -> None:
    """Write the glosses of words that the training text uses, the most frequent first."""
    words: Counter[str] = Counter()
    for line in train.read_text(encoding="utf-8").splitlines():
        words.update(set(re.findall(r"[a-z]{4,}", json.loads(line)["text"].lower())))
    senses = [first_sense(database, part) for part in PARTS]
    rows = []
    for word, count in words.most_common():
        gloss = next((part[word] for part in senses if word in part), None)
        if count >= SEEN and gloss and word not in gloss.lower() and len(gloss.split()) <= 30:
            rows.append((word, gloss))
    with (here / "glosses.tsv").open("w", encoding="utf-8") as file:
        file.write("term\ttext\n")
        file.writelines(f"{word}\t{gloss}\n" for word, gloss in rows[:MOST])
    print(f"glosses.tsv: {len(rows[:MOST])} rows of {len(rows)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(__file__).parent)
