"""Make train.jsonl and eval.jsonl from hutto_ICWSM_2014.tar.gz (see README.md beside this file).

python prepare.py path/to/hutto_ICWSM_2014.tar.gz ../movie-reviews/eval.jsonl
"""

import json
import random
import sys
import tarfile
from pathlib import Path

MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
NEUTRAL = 5  # one in so many of the sentences that movie-reviews leaves out goes to eval
CLEAR = 0.5  # what movie-reviews leaves out: nearer to zero than this


def main(archive: Path, reviews: Path, here: Path) -> None:
    """Write both splits: eval has the sentences of `reviews` and a fifth of the neutral ones."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(MEMBER)
        assert member is not None, f"{archive} has no {MEMBER}"
        lines = member.read().decode("utf-8").splitlines()
    kept = {json.loads(line)["text"] for line in reviews.read_text("utf-8").splitlines()}
    rows, seen, neutral = [], set(), 0
    splits: dict[str, list[dict[str, object]]] = {"train": [], "eval": []}
    for line in lines:
        _, valence, text = line.split("\t")
        text = text.replace("''", '"').strip()
        if text.lower() not in seen:
            seen.add(text.lower())
            rows.append({"text": text, "rating": round(float(valence), 3)})
    random.Random(0).shuffle(rows)
    for row in rows:
        neutral += abs(row["rating"]) < CLEAR
        held_out = row["text"] in kept or (abs(row["rating"]) < CLEAR and neutral % NEUTRAL == 0)
        splits["eval" if held_out else "train"].append(row)
    for name, part in splits.items():
        with (here / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in part:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}.jsonl: {len(part)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(__file__).parent)
