"""Make few.jsonl, texts.jsonl and eval.jsonl from the addresses of ../addresses.

python prepare.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TYPES = {
    "number": ["AddressNumber"],
    "street": [
        "StreetName",
        "StreetNamePostDirectional",
        "StreetNamePostType",
        "StreetNamePreDirectional",
        "StreetNamePreModifier",
        "StreetNamePreType",
    ],
    "unit": [
        "OccupancyIdentifier",
        "OccupancyType",
        "SubaddressIdentifier",
        "SubaddressType",
    ],
    "place": ["PlaceName"],
    "state": ["StateName"],
    "zip": ["ZipCode"],
}
"""Each type of a span, and the tags whose neighbouring words it joins."""
TYPE_OF = {tag: kind for kind, tags in TYPES.items() for tag in tags}
FEW = 100


def main(here: Path) -> None:
    """Write 100 addresses with spans, the texts of the others, and all eval addresses."""
    rows = {name: read(here.parent / f"addresses/{name}.jsonl") for name in ("train", "eval")}
    texts = [{"text": row["text"]} for row in rows["train"][FEW:]]
    write(here / "few.jsonl", rows["train"][:FEW])
    write(here / "texts.jsonl", texts)
    write(here / "eval.jsonl", rows["eval"])


def read(path: Path) -> list[dict[str, Any]]:
    """Return a file's addresses as texts with spans of characters."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = " ".join(row["tokens"])
        rows.append({"text": text, "spans": spans(row["tokens"], row["tags"])})
    return rows


def spans(tokens: list[str], tags: list[str]) -> list[dict[str, Any]]:
    """Return the spans of a row: runs of words of a type, without punctuation at their end."""
    spans: list[dict[str, Any]] = []
    start = 0
    previous = None
    for token, tag in zip(tokens, tags, strict=True):
        kind = TYPE_OF.get(tag[2:])
        end = start + len(token.rstrip(",.;"))
        if kind is not None and end > start:
            if kind == previous:
                spans[-1]["end"] = end
            else:
                spans.append({"start": start, "end": end, "label": kind})
        previous = kind
        start += len(token) + 1
    return spans


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parent)
