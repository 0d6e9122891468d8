"""The errors that a user can act on. Each class defines the exit code of the process.

Libraries in Rust raise errors that are no ``Exception``, several lines long; they become ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from rarefy.pipeline.terms.credentials import redact


class RarefyError(Exception):
    """Base of all errors whose message is one line that a person can act on.

    Credentials in URLs are removed from the message.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *arguments: Any) -> None:
        redacted = []
        for argument in arguments:
            is_text = isinstance(argument, str)
            redacted.append(redact(argument) if is_text else argument)
        super().__init__(*redacted)


class RecipeError(RarefyError):
    """The recipe, the command line or the data that they name is invalid (exit 2).

    ``others``: further errors of the same part of a recipe, which do not follow from this one.
    """

    exit_code = 2
    others: tuple[RecipeError, ...] = ()


class DataError(RecipeError):
    """A data file is missing, empty, or does not fit the task (exit 2)."""


class ModelError(RecipeError):
    """A model cannot do what the recipe requires (exit 2)."""


class BudgetError(RarefyError):
    """A budget was missed (exit 3)."""

    exit_code = 3


class EvidenceError(RarefyError):
    """The measurements do not support a verdict (exit 4)."""

    exit_code = 4


class ProviderError(RarefyError):
    """The machine lacks a required resource, e.g. an execution provider (exit 5)."""

    exit_code = 5


class IntegrityError(RarefyError):
    """Bytes do not match their digest, or cannot be trusted (exit 6)."""

    exit_code = 6


def is_panic(error: BaseException) -> bool:
    """Return whether a library in Rust panicked; its class can be imported from nowhere."""
    return type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def as_model_error(what: str) -> Iterator[None]:
    """Turn a panic into a ModelError; ``what``: the part of the model that caused it."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise ModelError(f"{what} fails on a text: {first_line(error)}") from error
