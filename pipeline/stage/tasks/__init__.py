"""Tasks: what a row is, what the head is, and how an answer is scored. One file a task."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.terms.errors import RecipeError
from pipeline.terms.naming import hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.stage.data import Split
    from pipeline.stage.formulas import Formula

ENTRY_POINTS = "rarefy.tasks"


class Task(Protocol):
    """What the stages need to know of a task."""

    name: str
    labels: tuple[str, ...]
    max_length: int
    text_columns: tuple[str, ...]
    scores: Mapping[str, Formula]
    """The metrics that its answers are scored by, the main one first."""

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows of a split, cut to ``max_length``, unpadded: one dict of id lists a row."""

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return how many tokens rows have before ``encode`` cuts them."""

    def load_model(self, directory: str) -> Any:
        """Load the body in ``directory`` with a fresh head, or its own where the labels fit."""


def find(name: str) -> type:
    """Return the class of a task. Raises RecipeError with the nearest known name."""
    points = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in points:
        raise RecipeError(f"unknown task {name!r}{hint(name, points)}")
    try:
        found: type = points[name].load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(f"{points[name].value} cannot be loaded: {reason}") from error
    return found
