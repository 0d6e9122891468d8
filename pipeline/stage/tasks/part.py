"""What the six parts of a task have in common: the task that they belong to."""

from __future__ import annotations

import copy
from abc import ABC
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pipeline.stage.tasks.task import Task


class Part(ABC):
    """A part of a task. It has no options of its own: it reads those of its ``task``."""

    task: Task

    def bound_to(self, task: Task) -> Self:
        """Return the same part of another task."""
        part = copy.copy(self)
        part.task = task
        return part

    def __eq__(self, other: object) -> bool:
        """Return whether the other part does the same, whatever the options of its task."""
        return type(self) is type(other)

    def __hash__(self) -> int:
        """Return the hash of what decides equality."""
        return hash(type(self))
