"""Make facts.tsv from WordNet 3.0's database files (see README.md beside this file).

python prepare.py path/to/wordnet ../wordnet-search/train.jsonl
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

NOUNS = 1000  # the first of the queries, whose definitions no query of eval.jsonl has


def main(database: Path, queries: Path, here: Path) -> None:
    """Write what WordNet says of the first queries: a definition, a synonym, what it is."""
    words, parents, definitions = {}, {}, {}
    offset_of = {}
    for line in (database / "data.noun").read_text().splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        offset, _, _, count, *rest = fields.split()
        end = 2 * int(count, 16)
        words[offset] = [word.replace("_", " ") for word in rest[:end:2]]
        pointers = pairwise(rest[end:])
        parents[offset] = [target for kind, target in pointers if kind in ("@", "@i")]
        definition, _, _ = gloss.partition('"')  # examples are quoted
        definitions[offset] = definition.strip().rstrip(";:,").strip()
        synonyms = ", ".join(words[offset])
        offset_of[synonyms, definitions[offset]] = offset
    rows = []
    for line in queries.read_text(encoding="utf-8").splitlines()[:NOUNS]:
        query = json.loads(line)
        offset = offset_of[query["query"], query["positive"]]
        subject, synonym, *_ = words[offset]
        rows.append((subject, "means", definitions[offset]))
        rows.append((subject, "synonym", synonym))
        for parent in parents[offset][:1]:
            rows.append((subject, "is_a", words[parent][0]))
    with (here / "facts.tsv").open("w", encoding="utf-8") as file:
        file.write("subject\trelation\tobject\n")
        file.writelines("\t".join(row) + "\n" for row in rows)
    print(f"facts.tsv: {len(rows)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(__file__).parent)
