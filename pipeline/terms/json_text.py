"""JSON that may be damaged or hostile: read whole and checked, with an error of one line.

``ours`` reads what rarefy wrote, where anything else is damage (exit 6); ``foreign`` reads what
others wrote, where it is wrong input (exit 2). Both take the form that the content must have: a
pydantic model, a TypedDict or any other type that pydantic checks.
"""

from __future__ import annotations

import ast
import json
import stat
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from rarefy.pipeline.terms.errors import IntegrityError, ModelError, ProviderError, RarefyError

T = TypeVar("T")
SIGNS: Final = 2000
"""Brackets and operators of a Python literal; Python's own parser recurses at each."""


def parse(data: bytes | str) -> Any:
    """Return the values of a JSON text. Raises ValueError whatever is wrong with it."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_literal(text: str) -> Any:
    """Return the values of a Python literal. Raises ValueError whatever is wrong with it."""
    if sum(text.count(sign) for sign in "([{+-~") > SIGNS:
        raise ValueError("it has too many brackets")
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"it is no literal: {error}") from None


def check(form: type[T], values: Any) -> T:
    """Return values that have a form. Raises ValueError, in one line, if they have another."""
    if form == dict[str, Any] and isinstance(values, dict):
        return cast("T", values)
    from pydantic import TypeAdapter, ValidationError  # slow, and `--help` needs no form

    try:
        checked: T = TypeAdapter(form).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(repr, first["loc"])) or "the content"
        raise ValueError(f"{place}: {first['msg']}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return checked


def shaped(form: type[T], data: bytes | str) -> T:
    """Return what a JSON text says, in a form. Raises ValueError, in one line, if it cannot be."""
    return check(form, parse(data))


def ours(path: Path, form: type[T], remedy: str = "delete it") -> T:
    """Return the content of a file that rarefy wrote.

    Raises FileNotFoundError if there is none, IntegrityError if it is damaged, ProviderError if
    this user may not read it.
    """
    try:
        return shaped(form, content(path))
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise ProviderError(f"{path}: cannot be read: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: the file is damaged ({_reason(error)}); {remedy}") from None


def foreign(path: Path, form: type[T], error_class: type[RarefyError] = ModelError) -> T:
    """Return the content of a file that others wrote.

    Raises ``error_class`` if there is none, if it cannot be read, or if it has another form.
    """
    try:
        return shaped(form, content(path))
    except OSError as error:
        raise error_class(f"{path}: cannot be read: {_reason(error)}") from None
    except ValueError as error:
        raise error_class(f"{path}: not what it must be: {_reason(error)}") from None


def content(path: Path) -> bytes:
    """Return the bytes of a file. Raises OSError for a pipe or a device, which may not end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "not a regular file", str(path))
    return path.read_bytes()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)
