"""Estimates of the disk space and memory that a stage needs.

Sizes are in bytes. A weight, a gradient and each of AdamW's two moments take ``FLOAT`` bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.model.shape import Shape

FLOAT = 4


@dataclass(frozen=True)
class Span:
    """A range for a number: at least ``least``, and most likely not more than ``most``."""

    least: int = 0
    most: int = 0

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)

    def __mul__(self, factor: int) -> Span:
        return Span(self.least * factor, self.most * factor)

    def __or__(self, other: Span) -> Span:
        """Return the larger of two spans, for needs that do not occur at the same time."""
        return Span(max(self.least, other.least), max(self.most, other.most))


PROCESS = Span(200_000_000, 700_000_000)
"""A Python process with torch and transformers, mostly library code."""
TRANSFER = "transfer"
"""The role of a transfer set in ``Stage.references``, and the name of its rows as a split."""
TEXTS = "texts"
"""The key of ``Draft.model`` under which a manifest has the number of a transfer set's texts."""
UNKNOWN_LENGTH = 3
"""The minimum number of tokens in a row: one between two special tokens."""


def weights(shape: Shape, copies: int = 1) -> Span:
    """Return the size of ``copies`` of a model's fp32 weights, 4 · parameters bytes each."""
    size = FLOAT * shape.parameters * copies
    return Span(size if shape.exact else 0, size)


def upto(size: int) -> Span:
    """Return a span of at most ``size``, for needs that depend on rows not known yet."""
    return Span(0, size)


def exactly(size: int) -> Span:
    return Span(size, size)


@dataclass(frozen=True)
class Workload:
    """The facts about a stage's work that are known before it runs.

    ``shape``       shape of the input; for a bundle, of the checkpoint that it was made from
    ``references``  shapes of the other artifacts that the stage receives, by step id, if known
    ``rows``        number of rows in each split of the recipe, and in the ``transfer`` set
    ``texts``       number of texts in each split, if rows are several texts or windows
    ``tokens``      number of tokens in each split's texts, truncated to ``max_length``
    ``longest``     upper bound on the tokens in each split's longest text
    ``together``    number of texts of a row that share a batch in plain training
    ``labels``      number of labels, or the width of an embedding
    ``providers``   number of execution providers among the recipe's targets
    ``base``        the recipe's folder
    """

    shape: Shape
    references: Mapping[str, Shape] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, Span] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)
    together: int = 1
    labels: int = 2
    providers: int = 1
    base: Path = Path()

    def tokens_of(self, splits: frozenset[str]) -> Span:
        """Return the total number of tokens in the given splits."""
        return sum((self.tokens[name] for name in sorted(splits & self.tokens.keys())), Span())

    def longest_of(self, splits: frozenset[str]) -> int:
        """Return an upper bound on the tokens in the longest row of the given splits."""
        return max((self.longest[name] for name in splits & self.longest.keys()), default=0)

    def rows_of(self, splits: frozenset[str]) -> int:
        """Return the total number of rows in the given splits."""
        return sum(self.rows[name] for name in splits & self.rows.keys())

    def texts_of(self, splits: frozenset[str]) -> int:
        """Return the total number of texts that a model reads in the given splits."""
        return sum(self.texts.get(name, self.rows[name]) for name in splits & self.rows.keys())


@dataclass(frozen=True)
class Resources:
    """The resources that a stage needs; None if the stage cannot estimate one.

    ``disk``    peak disk space: unfinished work plus output
    ``memory``  peak memory of all its processes, including device memory on a GPU
    ``shape``   shape of the model that it produces
    ``texts``   number of rows in the transfer set that it makes
    ``effort``  a quantity that its run time is proportional to, in any unit, used to predict the
                time of one run from another
    """

    disk: Span | None = None
    memory: Span | None = None
    shape: Shape | None = None
    texts: int | None = None
    effort: float | None = None
