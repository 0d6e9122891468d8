"""The source of a class that was defined in a notebook, with what it uses of the other cells."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import dis
import inspect
import linecache
import re
import sys
from collections.abc import Iterator
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

PLAIN = (bool, int, float, str, bytes, type(None), list, tuple, dict, set, frozenset)
COLLECTIONS = (list, tuple, set, frozenset, dict)
OTHERS = (PurePath, re.Pattern, Enum, partial)
"""What else counts as a constant."""


def source(kind: type, *, constants: bool = True) -> str | None:
    """Return the text of a class, and of the functions, classes and constants that it uses.

    ``inspect.getsource`` finds functions of a notebook, but no classes before Python 3.13. Returns
    None if a text is not known: in a plain Python prompt, or of a class without methods. Without
    ``constants``, what a stage may change itself is left out, such as a list that it appends to.
    """
    texts = set[tuple[str, str]]()  # several lambdas have one name
    for item in _used(kind):
        if isinstance(item, type | FunctionType):
            text = _class_text(item) if isinstance(item, type) else _function_text(item)
            if text is None and item is kind:
                return None
            texts.add((item.__qualname__, text or ""))
        elif isinstance(item, tuple) and constants:
            texts.add((item[0], _constant(item[1])))
    return "\n".join(text for _, text in sorted(texts))


def modules(kind: type) -> list[ModuleType]:
    """Return the modules that a class of a notebook uses, itself or what they define."""
    return [item for item in _used(kind) if isinstance(item, ModuleType)]


def _used(kind: type) -> Iterator[type | FunctionType | ModuleType | tuple[str, Any]]:
    """Return a class, what it uses of its notebook (constants with their name), and modules."""
    names = vars(sys.modules[kind.__module__])
    seen, constants = set[int](), set[tuple[str, int]]()
    ahead: list[tuple[str, Any]] = [(kind.__name__, kind)]
    while ahead:
        name, item = ahead.pop()
        if not isinstance(item, type | FunctionType | ModuleType):
            if (name, id(item)) in constants:
                continue
            constants.add((name, id(item)))
            if isinstance(item, (*PLAIN, *OTHERS)) or _is_data(item, kind.__module__):
                yield name, item
            ahead += [(name, each) for each in _code_in(item, kind.__module__)]
            continue
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, ModuleType):
            yield item
        elif item.__module__ != kind.__module__:
            ahead.append((name, sys.modules.get(item.__module__)))
        else:
            yield item
            ahead += [(each, names[each]) for each in _globals(item) & names.keys()]
            ahead += _around(item)


def _around(item: type | FunctionType) -> Iterator[tuple[str, Any]]:
    """Return a class's bases, or what a function has from around it and, decorated, in it."""
    if isinstance(item, type):
        yield from ((base.__name__, base) for base in item.__mro__[1:-1])
        return
    for free, cell in zip(item.__code__.co_freevars, item.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # it is not set yet
            yield f"{item.__qualname__}.{free}", cell.cell_contents
    if (inner := vars(item).get("__wrapped__")) is not None:
        yield item.__name__, inner


def _code_in(value: Any, module: str) -> list[Any]:
    """Return the functions and classes in an object: a collection, a partial, a notebook's data."""
    found, seen, ahead = list[Any](), set[int](), [value]
    while ahead:
        item = ahead.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, type | FunctionType):
            found.append(item)
        elif isinstance(item, partial):
            ahead += [item.func, item.args, item.keywords]
        elif isinstance(item, COLLECTIONS):
            ahead += item.values() if isinstance(item, dict) else item
        elif _is_data(item, module):
            ahead += [type(item), *_values(item).values()]
        elif callable(item):
            with contextlib.suppress(Exception):  # a proxy may raise anything
                ahead.append(item.__wrapped__)
    return found


def _is_data(value: Any, module: str) -> bool:
    """Return whether a value is an instance of one of the notebook's data classes."""
    return dataclasses.is_dataclass(type(value)) and type(value).__module__ == module


def _values(data: Any) -> dict[str, Any]:
    """Return the values of an instance of a data class, with slots or without."""
    fields = {each.name: getattr(data, each.name, None) for each in dataclasses.fields(data)}
    return fields | getattr(data, "__dict__", {})


def _constant(value: Any) -> str:
    """Return a constant as text; of what is no plain value the type, as ``repr`` may differ."""
    try:
        return _text(value, frozenset())
    except RecursionError:
        return type(value).__name__


def _text(value: Any, above: frozenset[int]) -> str:
    """Return a value as text; ``above``: what it is in, as an object may reach itself."""
    if id(value) in above:
        return "..."
    within = above | {id(value)}
    if isinstance(value, dict):
        pairs = (f"{_text(key, within)}: {_text(each, within)}" for key, each in value.items())
        return f"{{{', '.join(sorted(pairs))}}}"
    if isinstance(value, COLLECTIONS):
        parts = [_text(each, within) for each in value]
        return f"[{', '.join(sorted(parts) if isinstance(value, set | frozenset) else parts)}]"
    if isinstance(value, re.Pattern):  # whose repr is cut off
        return f"{value.pattern!r} {value.flags}"
    if isinstance(value, partial):
        given = _text([value.args, value.keywords], within)
        return f"{_text(value.func, within)} {given}"
    if isinstance(value, (*PLAIN, *OTHERS)):
        return repr(value)
    if isinstance(value, type | FunctionType):
        return value.__qualname__
    kind = type(value).__qualname__
    return f"{kind} {_text(_values(value), within)}" if dataclasses.is_dataclass(value) else kind


def _functions(kind: type) -> Iterator[FunctionType]:
    for value in vars(kind).values():
        places = ("fget", "__func__", "func")  # of a property, a class method, a cached property
        inner = next((made for each in places if (made := getattr(value, each, None))), value)
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
    """Return the global names that a function, or a class and its methods, read."""
    functions = _functions(item) if isinstance(item, type) else [item]
    ahead: list[Any] = [function.__code__ for function in functions]
    text = _class_text(item) if isinstance(item, type) else _function_text(item)
    found = _read_when_defined(text or "")
    while ahead:
        code = ahead.pop()
        ahead += [each for each in code.co_consts if isinstance(each, CodeType)]
        found |= {
            str(step.argval)
            for step in dis.get_instructions(code)
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        }
    return found


def _parsed(text: str) -> ast.AST:
    """Return the tree of a text, which may be indented; an empty one of a part of a statement."""
    for whole in (text, f"if True:\n{text}"):
        try:
            return ast.parse(whole)
        except SyntaxError:
            continue
    return ast.Module([], [])


def _read_when_defined(text: str) -> set[str]:
    """Return the names that a class or function reads when it is defined.

    That are those of a class's fields, of decorators and of defaults.
    """
    found: set[str] = set()
    ahead: list[ast.AST] = [_parsed(text)]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            ahead += [*getattr(node, "decorator_list", ()), node.args]
        else:
            ahead += ast.iter_child_nodes(node)
    return found
