"""Find the parts of addresses by rules and word lists, as spans of characters.

    python examples/data/address-spans/predict.py < addresses.jsonl > spans.jsonl

Stands for any system that marks spans: a vendor, a zero-shot tagger, a language model.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

STATES = """al ak az ar ca co ct de fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh
nj nm ny nc nd oh ok or pa ri sc sd tn tx ut vt va wa wv wi wy dc alabama alaska arizona arkansas
california colorado connecticut delaware florida georgia hawaii idaho illinois indiana iowa kansas
kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana
nebraska nevada ohio oklahoma oregon pennsylvania tennessee texas utah vermont virginia washington
wisconsin wyoming"""
STREETS = """street st avenue ave av road rd drive dr boulevard blvd lane ln court ct place pl way
circle cir parkway pkwy highway hwy terrace ter trail trl square sq plaza alley loop pike freeway
route rte expressway turnpike broadway"""
UNITS = "apt apartment suite ste unit floor fl room rm building bldg lot #"
DIRECTIONS = "n s e w ne nw se sw north south east west northeast northwest southeast southwest"
WORD = re.compile(r"[^\s,]+")
ZIP = re.compile(r"\d{5}(-\d{4})?")


def spans(text: str) -> list[dict[str, Any]]:
    """Return the parts of an address: from its end the zip and the state, then from its start."""
    words = list(WORD.finditer(text))
    names = [word.group().strip(".;").lower() for word in words]
    found: list[tuple[int, int, str]] = []
    first, end = 0, len(words)
    if end and ZIP.fullmatch(names[end - 1]):
        found.append((end - 1, end, "zip"))
        end -= 1
    if end and names[end - 1] in STATES.split():
        found.append((end - 1, end, "state"))
        end -= 1
    if end and names[0][:1].isdigit():
        found.append((0, 1, "number"))
        first = 1
    units = [at for at in range(first, end) if names[at] in UNITS.split() or names[at][0] == "#"]
    streets = [at for at in range(first, end) if names[at] in STREETS.split()]
    if streets:
        last = streets[0] + 1
        while last < end and names[last] in DIRECTIONS.split():
            last += 1
        found.append((first, last, "street"))
        first = last
    for at in units:
        if at >= first:
            last = at + 1 if len(names[at]) > 1 and names[at][0] == "#" else min(at + 2, end)
            found.append((at, last, "unit"))
            first = last
    if first < end and first and text[words[first - 1].end() :].lstrip() and len(found) > 1:
        found.append((first, end, "place"))
    return [
        {
            "start": words[start].start(),
            "end": len(text[: words[last - 1].end()].rstrip(".;")),
            "label": kind,
        }
        for start, last, kind in sorted(found)
    ]


def main() -> None:
    """Print each address with its spans."""
    for line in sys.stdin:
        text = json.loads(line)["text"]
        print(json.dumps({"text": text, "spans": spans(text)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
