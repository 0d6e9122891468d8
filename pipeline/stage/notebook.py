"""The source of a class that was defined in a notebook, with what it uses of the other cells."""

from __future__ import annotations

import ast
import dis
import inspect
import json
import linecache
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

PLAIN = (bool, int, float, str, type(None), list, tuple, dict)


def source(kind: type) -> str | None:
    """Return the text of a class, and of the functions, classes and constants that it uses.

    ``inspect.getsource`` finds functions of a notebook, but no classes before Python 3.13. Returns
    None if a text is not known: in a plain Python prompt, or of a class without methods.
    """
    texts: dict[str, str] = {}
    for item in _used(kind):
        if isinstance(item, type | FunctionType):
            text = _class_text(item) if isinstance(item, type) else _function_text(item)
            if text is None and item is kind:
                return None
            texts[item.__qualname__] = text or ""
        elif isinstance(item, tuple):
            texts[item[0]] = _constant(item[1])
    return "\n".join(texts[name] for name in sorted(texts))


def modules(kind: type) -> list[ModuleType]:
    """Return the modules that a class of a notebook uses, itself or what they define."""
    return [item for item in _used(kind) if isinstance(item, ModuleType)]


def _used(kind: type) -> Iterator[type | FunctionType | ModuleType | tuple[str, Any]]:
    """Return a class, what it uses of its notebook (constants with their name), and modules."""
    names = vars(sys.modules[kind.__module__])
    seen: set[int] = set()
    ahead: list[Any] = [kind]
    while ahead:
        item = ahead.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if not isinstance(item, type | FunctionType):
            continue
        for name in _globals(item):
            value = names.get(name)
            if isinstance(value, type | FunctionType):
                here = value.__module__ == kind.__module__
                ahead.append(value if here else sys.modules.get(value.__module__))
            elif isinstance(value, ModuleType):
                ahead.append(value)
            elif name in names and isinstance(value, PLAIN):
                yield name, value


def _constant(value: Any) -> str:
    """Return a constant as text; of what is no plain value the type, as ``repr`` may differ."""
    try:
        return json.dumps(value, sort_keys=True, default=lambda other: type(other).__name__)
    except (TypeError, ValueError):
        return type(value).__name__


def _functions(kind: type) -> Iterator[FunctionType]:
    for value in vars(kind).values():
        inner = getattr(value, "fget", None) or getattr(value, "__func__", value)
        found = inspect.unwrap(inner) if callable(inner) else inner
        if isinstance(found, FunctionType):
            yield found


def _class_text(kind: type) -> str | None:
    """Return the lines of a class, found around one of its methods."""
    for function in _functions(kind):
        code = function.__code__
        lines = linecache.getlines(code.co_filename)
        try:
            tree = ast.parse("".join(lines))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef) or node.name != kind.__name__:
                continue
            if node.lineno <= code.co_firstlineno <= (node.end_lineno or 0):
                first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
                return "".join(lines[first - 1 : node.end_lineno])
    return None


def _function_text(function: FunctionType) -> str | None:
    try:
        return inspect.getsource(function)
    except OSError:
        return None


def _globals(item: type | FunctionType) -> set[str]:
    """Return the global names that a function, or the methods of a class, read."""
    functions = _functions(item) if isinstance(item, type) else [item]
    ahead: list[Any] = [function.__code__ for function in functions]
    found: set[str] = set()
    while ahead:
        code = ahead.pop()
        ahead += [each for each in code.co_consts if isinstance(each, CodeType)]
        found |= {
            str(step.argval)
            for step in dis.get_instructions(code)
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        }
    return found
