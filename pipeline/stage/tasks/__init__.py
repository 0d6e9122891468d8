"""Tasks, one file each: the format of a row, the model's head, and how predictions are scored."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.stage import code
from pipeline.terms.errors import RarefyError, RecipeError
from pipeline.terms.naming import hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.stage.data import Split
    from pipeline.stage.formulas import Formula

ENTRY_POINTS = "rarefy.tasks"


class Task(Protocol):
    """The interface of a task, as stages use it."""

    name: str
    labels: tuple[str, ...]
    max_length: int
    text_columns: tuple[str, ...]
    scores: Mapping[str, Formula]
    """The metrics that score its predictions, the main one first."""

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows, truncated to ``max_length``, unpadded: one dict of id lists per row."""

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before ``encode`` truncates it."""

    def load_model(self, directory: str) -> Any:
        """Load the body in ``directory`` with a new head, or with its own if the labels match."""


def find(name: str) -> type:
    """Return a task's class, whose code ``code.digests`` knows if it is not ours.

    Raises RecipeError with the most similar name if the task is unknown, or with the reason if it
    cannot be loaded.
    """
    points = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in points:
        raise RecipeError(f"unknown task {name!r}{hint(name, points)}")
    try:
        found: type = points[name].load()
        code.note(found)
    except RarefyError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(
            f"task {name} ({points[name].value}) cannot be loaded: {reason}"
        ) from error
    return found
