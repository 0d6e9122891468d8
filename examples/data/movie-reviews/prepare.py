"""Make train.jsonl and eval.jsonl from hutto_ICWSM_2014.tar.gz (see README.md beside this file).

python prepare.py path/to/hutto_ICWSM_2014.tar.gz
"""

import json
import random
import sys
import tarfile
from pathlib import Path

MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
CLEAR = 0.5  # mean valence of 20 raters, from -4 to 4; nearer to zero the sign is no label
EVAL_ROWS = 2000


def main(archive: Path, here: Path) -> None:
    """Write both splits: the sign of the valence as label, duplicates left out, seed 0."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(MEMBER)
        assert member is not None, f"{archive} has no {MEMBER}"
        lines = member.read().decode("utf-8").splitlines()
    rows, seen = [], set()
    for line in lines:
        _, valence, text = line.split("\t")
        text = text.replace("''", '"').strip()
        if abs(float(valence)) >= CLEAR and text.lower() not in seen:
            seen.add(text.lower())
            label = "positive" if float(valence) > 0 else "negative"
            rows.append({"text": text, "label": label})
    random.Random(0).shuffle(rows)
    for name, part in (("eval", rows[:EVAL_ROWS]), ("train", rows[EVAL_ROWS:])):
        with (here / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in part:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}.jsonl: {len(part)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
