"""Facts and glosses: read them from a file, split them, and shuffle them for a control."""

from __future__ import annotations

import csv
import json
import random
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rarefy.pipeline.terms.errors import DataError

COLUMNS = (("subject", "relation", "object"), ("term", "relation", "text"))
"""The column names a file may use; rows without ``relation`` are glosses."""

LONGEST_TERM = 4
"""Objects of at most this many words are terms; longer ones are texts."""

GLOSS = "means"
SAME = frozenset({GLOSS, "synonym"})
"""Relations whose subject alone should find the object."""


@dataclass(frozen=True)
class Fact:
    """A subject, a relation and an object: ``spaniel``, ``hypernym``, ``dog``."""

    subject: str
    relation: str
    object: str

    @property
    def query(self) -> str:
        """What should find the object: the subject, with the relation if it has one in words."""
        if self.relation in SAME:
            return self.subject
        words = self.relation.replace("_", " ")
        return f"{self.subject} {words}"


def read(path: Path) -> list[Fact]:
    """Read distinct facts from a TSV file with a header, or from JSONL.

    The columns are subject, relation, object or term, relation, text. Rows without a relation are
    glosses. Raises DataError, with file and line, if the file cannot be read.
    """
    rows = _jsonl(path) if path.suffix == ".jsonl" else _tsv(path)
    facts: dict[Fact, None] = {}
    for line, row in rows:
        fact = _fact(row, f"{path}:{line}")
        facts[fact] = None
    if len(facts) < 2:
        raise DataError(f"{path}: found {len(facts)} distinct facts; at least two are needed")
    return list(facts)


def _fact(row: Mapping[str, Any], place: str) -> Fact:
    """Return the fact of a row. Raises DataError at ``place`` if a column or a text is missing."""
    columns = next((names for names in COLUMNS if names[0] in row and names[2] in row), None)
    if columns is None:
        names = ", ".join(map(str, row)) or "none"
        raise DataError(
            f"{place}: needs columns 'subject' and 'object', or 'term' and 'text'; found {names}"
        )
    subject, relation, target = columns
    stated = row.get(relation)
    values = [row[subject], stated or GLOSS, row[target]]
    for name, value in zip(columns, values, strict=True):
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{place}: {name}: expected text, found {value!r}")
    return Fact(*(value.strip() for value in values))


def _tsv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = filter(None, reader)
        try:
            header = next(rows, [])
            for row in rows:
                line = reader.line_num
                if len(row) != len(header):
                    raise DataError(
                        f"{path}:{line}: {len(row)} columns; the header has {len(header)}"
                    )
                yield line, dict(zip(header, row, strict=True))
        except UnicodeDecodeError as error:
            line = reader.line_num + 1
            raise DataError(f"{path}:{line}: not valid UTF-8: {error}") from None


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except ValueError as error:
                raise DataError(f"{path}:{line}: not valid JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{line}: expected an object, found {row!r}")
            yield line, row


def normalized(text: str) -> str:
    """Return a text's words in lower case without punctuation, to compare how texts read."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", plain)) or plain


def split(
    facts: Sequence[Fact], held_out: float, draw: random.Random
) -> tuple[list[Fact], list[Fact]]:
    """Split facts at random; return (facts to learn, facts held out).

    Facts that read alike are never on both sides. WordNet gives synonyms the same gloss, so a
    held-out gloss that was also learned under another term would measure memorization. Glosses and
    texts are compared by their object alone. Terms ("dog") are objects of many subjects and are
    compared by subject and object, in either order: "part of" says of both what "has part" does.

    At most a share ``held_out`` of the facts is held out (rounded), and at least one group of facts
    that read alike.
    """
    groups: dict[tuple[str, ...], list[Fact]] = {}
    for fact in draw.sample(facts, len(facts)):
        group = groups.setdefault(_reading(fact), [])
        group.append(fact)
    most = max(1, round(held_out * len(facts)))
    learned: list[Fact] = []
    reserved: list[Fact] = []
    for group in groups.values():
        side = learned
        if len(reserved) + len(group) <= most:
            side = reserved
        side.extend(group)
    if not reserved:
        reserved = min(groups.values(), key=len)
        learned = [fact for fact in learned if fact not in reserved]
    return learned, reserved


def _reading(fact: Fact) -> tuple[str, ...]:
    text = normalized(fact.object)
    if fact.relation == GLOSS or len(text.split()) > LONGEST_TERM:
        return (text,)
    return tuple(sorted((normalized(fact.subject), text)))


def shuffled(facts: Sequence[Fact], draw: random.Random) -> list[Fact]:
    """Return the facts in order, each with the object of another fact of the same relation.

    That may be an equal object, by chance: if each had to differ, a relation with two objects would
    be taught the wrong way round, and a probe would find less than guessing does. Facts whose
    relation has no other object would all stay true, and are left out.
    """
    relations: dict[str, list[int]] = {}
    for position, fact in enumerate(facts):
        positions = relations.setdefault(fact.relation, [])
        positions.append(position)
    dealt: dict[int, Fact] = {}
    for positions in relations.values():
        order = draw.sample(positions, len(positions))
        objects = {normalized(facts[position].object) for position in positions}
        if len(objects) == 1:
            continue
        rotated = order[1:] + order[:1]
        for position, other in zip(order, rotated, strict=True):
            fact = facts[position]
            text = facts[other].object
            dealt[position] = replace(fact, object=text)
    return [dealt[position] for position in sorted(dealt)]
