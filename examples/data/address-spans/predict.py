"""Find the parts of addresses by rules and word lists, as spans of characters.

    python examples/data/address-spans/predict.py < addresses.jsonl > spans.jsonl

Stands for any system that marks spans: a vendor, a zero-shot tagger, a language model.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any


def set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


STATES = set_of("""
al ak az ar ca co ct de fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh
nj nm ny nc nd oh ok or pa ri sc sd tn tx ut vt va wa wv wi wy dc alabama alaska arizona arkansas
california colorado connecticut delaware florida georgia hawaii idaho illinois indiana iowa kansas
kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana
nebraska nevada ohio oklahoma oregon pennsylvania tennessee texas utah vermont virginia washington
wisconsin wyoming""")
STREETS = set_of("""
street st avenue ave av road rd drive dr boulevard blvd lane ln court ct place pl way
circle cir parkway pkwy highway hwy terrace ter trail trl square sq plaza alley loop pike freeway
route rte expressway turnpike broadway""")
UNITS = set_of("apt apartment suite ste unit floor fl room rm building bldg lot #")
DIRECTIONS = set_of(
    "n s e w ne nw se sw north south east west northeast northwest southeast southwest"
)
WORD = re.compile(r"[^\s,]+")
ZIP = re.compile(r"\d{5}(-\d{4})?")
Part = tuple[int, int, str]
"""The number of its first word, that of the word after its last, and its kind."""


def spans(text: str) -> list[dict[str, Any]]:
    """Return the parts of an address as spans of characters."""
    words = list(WORD.finditer(text))
    names = [word.group().strip(".;").lower() for word in words]
    marked = []
    for first, after, kind in sorted(parts(text, words, names)):
        start, end = words[first].start(), words[after - 1].end()
        end = len(text[:end].rstrip(".;"))
        marked.append({"start": start, "end": end, "label": kind})
    return marked


def parts(text: str, words: list[re.Match[str]], names: list[str]) -> list[Part]:
    """Return the parts of an address: from its end the zip and the state, then from its start."""
    parts: list[Part] = []
    first, end = 0, len(names)
    if end and ZIP.fullmatch(names[end - 1]):
        parts.append((end - 1, end, "zip"))
        end -= 1
    if end and names[end - 1] in STATES:
        parts.append((end - 1, end, "state"))
        end -= 1
    if end and names[0][:1].isdigit():
        parts.append((0, 1, "number"))
        first = 1
    units = [at for at in range(first, end) if is_unit(names[at])]
    streets = [at for at in range(first, end) if names[at] in STREETS]
    if streets:
        after = streets[0] + 1
        while after < end and names[after] in DIRECTIONS:
            after += 1
        parts.append((first, after, "street"))
        first = after
    for at in units:
        if at < first:
            continue
        after = at + 1
        if not has_number(names[at]):
            after = min(at + 2, end)  # the word after it is its number
        parts.append((at, after, "unit"))
        first = after
    if 0 < first < end and len(parts) > 1:
        rest = text[words[first - 1].end() :]
        if rest.strip():
            parts.append((first, end, "place"))
    return parts


def is_unit(name: str) -> bool:
    return name in UNITS or name.startswith("#")


def has_number(name: str) -> bool:
    """Return whether a unit's word has its number in it, as in #12."""
    return len(name) > 1 and name.startswith("#")


def main() -> None:
    """Print each address with its spans."""
    for line in sys.stdin:
        text = json.loads(line)["text"]
        print(json.dumps({"text": text, "spans": spans(text)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
