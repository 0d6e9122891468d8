"""Make train.jsonl and eval.jsonl from the addresses of usaddress (see README.md beside this file).

python prepare.py path/to/usaddress-0.5.16.tar.gz
"""

import json
import random
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

MEMBER = "usaddress-0.5.16/training/labeled.xml"
EVAL_ROWS = 400


def tagged(address: ElementTree.Element) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return tokens and BIO tags. Neighbours with one tag are one entity, as in usaddress."""
    tokens, tags = [], []
    before = None
    for part in address:
        for token in (part.text or "").split():
            tokens.append(token)
            tags.append(f"I-{part.tag}" if part.tag == before else f"B-{part.tag}")
            before = part.tag
    return tuple(tokens), tuple(tags)


def main(archive: Path, here: Path) -> None:
    """Write both splits: addresses that occur twice are left out, seed 0."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(MEMBER)
        assert member is not None, f"{archive} has no {MEMBER}"
        addresses = ElementTree.parse(member).getroot()
    rows, seen = [], set()
    for tokens, tags in map(tagged, addresses):
        text = " ".join(tokens).lower()
        if tokens and text not in seen:
            seen.add(text)
            rows.append({"tokens": tokens, "tags": tags})
    random.Random(0).shuffle(rows)
    for name, part in (("eval", rows[:EVAL_ROWS]), ("train", rows[EVAL_ROWS:])):
        with (here / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in part:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}.jsonl: {len(part)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
