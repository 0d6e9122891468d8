"""The errors a user can act on. Each carries the exit code of the process that meets it."""

from __future__ import annotations

from typing import ClassVar


class RarefyError(Exception):
    """An error whose message is one line that a person can act on."""

    exit_code: ClassVar[int] = 1


class RecipeError(RarefyError):
    """The recipe, the command line or the data it names is wrong (exit 2)."""

    exit_code = 2


class DataError(RecipeError):
    """A data file is missing, empty, or does not fit the task (exit 2)."""


class ModelError(RecipeError):
    """A model cannot be used for what the recipe asks of it (exit 2)."""


class BudgetError(RarefyError):
    """A budget was missed (exit 3)."""

    exit_code = 3


class EvidenceError(RarefyError):
    """The measurements cannot carry a verdict (exit 4)."""

    exit_code = 4


class ProviderError(RarefyError):
    """The machine lacks what was asked of it, e.g. an execution provider (exit 5)."""

    exit_code = 5


class IntegrityError(RarefyError):
    """Bytes are not what their digest says, or may not be trusted (exit 6)."""

    exit_code = 6
