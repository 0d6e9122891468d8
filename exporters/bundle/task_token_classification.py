"""The answer of a bundle for token-classification; in a bundle, this is ``predict_task.py``."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np

MARK, HAN = "\u0300", "\u4e00"
SPLITTERS = {
    "words": re.compile(rf"[^\W{HAN}]+(?:{MARK}+[^\W{HAN}]*)*|\S{MARK}*"),
    "blank": re.compile(r"\S+"),
}
Span = tuple[int, int]
"""The first character of something, and the one after its last."""


class Classes(dict[int, int]):
    """The class of each character, for ``str.translate``: a mark, a Chinese one, or itself."""

    def __missing__(self, code: int) -> int:
        """Return the class of a character, or the character if it is in none."""
        character = chr(code)
        result = code
        if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") and character != "\u200b":
            result = ord(MARK)
        elif unicodedata.name(character, "").startswith(("CJK UNIFIED", "CJK COMPATIBILITY")):
            result = ord(HAN)
        self[code] = result
        return result


CLASSES = Classes()


def answer_words(
    texts: list[Any],
    config: dict[str, Any],
    compute: Callable[[str], tuple[list[Any], Any]],
    overlap: int,
) -> list[dict[str, Any]]:
    """Return {"entities", "tags"} for each text.

    Args:
        texts: raw texts, or lists of words.
        config: the bundle's config.json.
        compute: returns a text's windows, and the logits (windows, tokens, tags).
        overlap: how many tokens two windows share.
    """
    names = config["id2label"]
    labels = [names[str(index)] for index in range(len(names))]
    answers = []
    for row, text in zip(texts, [joined(row) for row in texts], strict=True):
        splitter = "blank"
        if isinstance(row, str):
            splitter = config["splitter"]
        places = split(text, splitter)
        words = [text[start:end] for start, end in places]
        windows, outputs = compute(" ".join(words))
        logits = outputs.astype(np.float64)[answering(words, windows, overlap)]
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities = powers / powers.sum(axis=-1, keepdims=True)
        answers.append(describe(text, places, probabilities, labels))
    return answers


def split(text: str, splitter: str) -> list[Span]:
    """Return the places of the words of a raw text."""
    if splitter == "words":
        text = text.translate(CLASSES)
    return [match.span() for match in SPLITTERS[splitter].finditer(text)]


def joined(row: Any) -> str:
    """Return a text as it is, or its words joined by spaces.

    Raises ValueError if one is not a word.
    """
    if isinstance(row, str):
        return row
    for word in row:
        if not isinstance(word, str) or not SPLITTERS["blank"].fullmatch(word):
            raise ValueError(
                f"{word!r:.60} is not a word: it is empty, has a blank in it or is not text"
            )
    return " ".join(row)


def answering(words: list[str], windows: list[Any], overlap: int) -> tuple[Any, Any]:
    """Return the window, and the token in it, that answers each word: two arrays (words,).

    It is the first token that ends in the word. A window answers the half of what it shares with
    another that is nearer to its middle.
    """
    tokens = []
    last = len(windows) - 1
    for number, window in enumerate(windows):
        inside = np.flatnonzero(np.array(window.special_tokens_mask, int) == 0)
        first = 0
        if number > 0:
            first = overlap // 2
        after = len(inside)
        if number < last:
            after -= overlap - overlap // 2
        for at in inside[first:after]:
            tokens.append((number, at, window.offsets[at][1]))
    window_of, place, end = np.array(tokens or [(0, 0, 0)], np.int64).T
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    word_of = np.maximum.accumulate(np.searchsorted(starts, end) - 1)
    first_token = np.searchsorted(word_of, np.arange(len(words)))
    first_token = np.minimum(first_token, len(end) - 1)
    return window_of[first_token], place[first_token]


def describe(
    text: str, places: list[Span], probabilities: Any, labels: list[str]
) -> dict[str, Any]:
    """Return the entities of a text, as ``conlleval`` reads its tags, and the tags.

    ``places``: the characters of each word. ``probabilities``: (words, tags).
    """
    tags = [labels[best] for best in probabilities.argmax(axis=-1)]
    rounded = probabilities.round(6)
    prefixes = prefixes_of(labels)
    entities = []
    written = ["O"] * len(tags)
    for kind, start, end in spans(tags, labels):
        first = places[start][0]
        last = places[end - 1][1]
        score = sum(rounded[start:end].max(axis=-1).tolist()) / (end - start)
        entity = {"type": kind, "text": text[first:last], "start": first, "end": last}
        entities.append(entity | {"score": round(score, 6)})
        written[start:end] = in_scheme(kind, end - start, prefixes)
    return {"entities": entities, "tags": written}


def spans(tags: list[str], labels: list[str]) -> list[tuple[str, int, int]]:
    """Return each entity of a text: its type, its first word, and the one after its last."""
    marked = are_prefixed(labels)
    parts = []
    for tag in tags:
        if marked or tag == "O":
            parts.append((tag[0], tag[2:] or "_"))
        else:
            parts.append(("I", tag))
    entities = []
    start = 0
    before = ("O", "_")
    for at, (mark, kind) in enumerate([*parts, ("O", "_")]):
        changed = kind != before[1]
        if before[0] != "O" and (before[0] in "ES" or mark in "BSO" or changed):
            entities.append((before[1], start, at))
        if mark != "O" and (mark in "BS" or before[0] in "ESO" or changed):
            start = at
        before = (mark, kind)
    return entities


def are_prefixed(labels: list[str]) -> bool:
    """Return whether all labels but O begin with a mark of a scheme, such as B- or I-."""
    kinds = set(labels) - {"O"}
    if kinds <= set("BIES"):
        return True
    return all(len(kind) > 2 and kind[0] in "BIES" and kind[1] == "-" for kind in kinds)


def prefixes_of(labels: list[str]) -> set[str]:
    """Return the marks with which labels begin; empty if they have none."""
    if not are_prefixed(labels):
        return set()
    return {label[0] for label in set(labels) - {"O"}}


def in_scheme(kind: str, count: int, prefixes: set[str]) -> list[str]:
    """Return an entity's tags with the prefixes that the labels have."""
    if not prefixes:
        return [kind] * count
    marks = ["I"] * count
    if prefixes != {"I"}:
        marks[0] = "B"
    if prefixes & {"E", "S"}:
        marks[-1] = "S" if count == 1 else "E"
    if kind == "_":
        return marks
    return [f"{mark}-{kind}" for mark in marks]
