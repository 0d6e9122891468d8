"""The answer of a bundle for token-classification, in its predict.py."""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import Any

import numpy as np

from exporters.runner import encoded, load, overlap, read, run

# The answer of one row, for token-classification: a text, or a list of words.
MARK, HAN = "\u0300", "\u4e00"
SPLITTERS = {
    "words": re.compile(rf"[^\W{HAN}]+(?:{MARK}+[^\W{HAN}]*)*|\S{MARK}*"),
    "blank": re.compile(r"\S+"),
}


class Classes(dict[int, int]):
    """The class of each character, for ``str.translate``: a mark, a Chinese one, or itself."""

    def __missing__(self, code: int) -> int:
        """Return the class of a character, or the character if it is in none."""
        character, found = chr(code), code
        if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") and character != "\u200b":
            found = ord(MARK)
        elif unicodedata.name(character, "").startswith(("CJK UNIFIED", "CJK COMPATIBILITY")):
            found = ord(HAN)
        self[code] = found
        return found


CLASSES = Classes()


def answer(texts: list[Any], pairs: list[str] | None = None) -> list[dict[str, Any]]:
    """Return {"entities", "tags"} for each text. A text may be a list of words."""
    if pairs is not None:
        sys.exit("this bundle reads single texts in words, not pairs of texts")
    session, tokenizer = load()
    config, shared = read("config.json"), overlap(tokenizer)
    names = [config["id2label"][str(at)] for at in range(len(config["id2label"]))]
    answers = []
    for given, text in zip(texts, [joined(given) for given in texts], strict=True):
        places = split(text, config["splitter"] if isinstance(given, str) else "blank")
        words = [text[start:end] for start, end in places]
        encoding = encoded(tokenizer, " ".join(words))
        parts = [encoding, *encoding.overflowing]
        logits = run(session, parts).astype(np.float64)  # windows × tokens × tags
        logits = logits[answering(words, parts, shared)]
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        answers.append(described(text, places, powers / powers.sum(axis=-1, keepdims=True), names))
    return answers


def split(text: str, splitter: str) -> list[tuple[int, int]]:
    """Return the first character of each word of a raw text, and the one after its last."""
    if splitter == "words":
        text = text.translate(CLASSES)
    return [found.span() for found in SPLITTERS[splitter].finditer(text)]


def joined(given: Any) -> str:
    """Return a text as it is, or its words joined by spaces; exit if one is not a word."""
    if isinstance(given, str):
        return given
    for word in given:
        if not isinstance(word, str) or not SPLITTERS["blank"].fullmatch(word):
            sys.exit(f"{word!r:.60} is not a word: it is empty, has a blank in it or is not text")
    return " ".join(given)


def answering(words: list[str], parts: list[Any], shared: int) -> tuple[Any, Any]:
    """Return the window, and the token in it, that answers each word.

    It is the first token that ends in the word. A window answers the half of what it shares with
    another that is nearer to its middle.
    """
    tokens = []
    for number, part in enumerate(parts):
        inside = np.flatnonzero(np.array(part.special_tokens_mask, int) == 0)
        before = shared // 2 if number else 0
        after = shared - shared // 2 if number < len(parts) - 1 else 0
        tokens += [(number, at, part.offsets[at][1]) for at in inside[before : len(inside) - after]]
    window, place, end = np.array(tokens or [(0, 0, 0)], np.int64).T
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    word = np.maximum.accumulate(np.searchsorted(starts, end) - 1)
    first = np.minimum(np.searchsorted(word, np.arange(len(words))), len(end) - 1)
    return window[first], place[first]


def described(text: str, places: Any, shares: Any, names: list[str]) -> dict[str, Any]:
    """Return the entities of a text, as ``conlleval`` reads its tags, and the tags.

    ``places``: the characters of each word. ``shares``: words × tags.
    """
    tags = [names[at] for at in shares.argmax(axis=-1)]
    shares = shares.round(6)
    kinds = set(names) - {"O"}
    untyped = kinds <= set("BIES")
    marked = untyped or all(len(n) > 2 and n[0] in "BIES" and n[1] == "-" for n in kinds)
    parts = [(tag[0], tag[2:] or "_") if marked or tag == "O" else ("I", tag) for tag in tags] + [
        ("O", "_")
    ]
    starts = {name[0] for name in kinds} if marked else set()
    found, written, start, before = [], ["O"] * len(tags), 0, ("O", "_")
    for at, (mark, kind) in enumerate(parts):
        changed = kind != before[1]
        closed = before[0] in "ES" or mark in "BSO" or changed
        if before[0] != "O" and closed:
            first, last = places[start][0], places[at - 1][1]
            score = round(sum(shares[start:at].max(axis=-1).tolist()) / (at - start), 6)
            entity = {"type": before[1], "text": text[first:last], "start": first, "end": last}
            found.append(entity | {"score": score})
            written[start:at] = in_scheme(before[1], at - start, starts)
        if mark != "O" and (mark in "BS" or before[0] in "ESO" or changed):
            start = at
        before = (mark, kind)
    return {"entities": found, "tags": written}


def in_scheme(kind: str, count: int, marks: set[str]) -> list[str]:
    """Return an entity's tags with the prefixes that the labels have."""
    if not marks:
        return [kind] * count
    given = ["I"] * count
    if marks != {"I"}:
        given[0] = "B"
    if marks & {"E", "S"}:
        given[-1] = "S" if count == 1 else "E"
    return [mark if kind == "_" else f"{mark}-{kind}" for mark in given]
