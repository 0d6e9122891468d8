"""Errors of libraries in Rust that gave up: they are no ``Exception``, and several lines long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rarefy.pipeline.terms.errors import ModelError


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
