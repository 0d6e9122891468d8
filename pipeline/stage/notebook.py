"""The source of a class that was defined in a notebook, with what it uses of the other cells."""

from __future__ import annotations

import ast
import dis
import inspect
import json
import linecache
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

PLAIN = (bool, int, float, str, bytes, type(None), list, tuple, dict, set, frozenset)
OTHERS = (PurePath, re.Pattern, Enum)
"""What else counts as a constant."""


def source(kind: type, *, constants: bool = True) -> str | None:
    """Return the text of a class, and of the functions, classes and constants that it uses.

    ``inspect.getsource`` finds functions of a notebook, but no classes before Python 3.13. Returns
    None if a text is not known: in a plain Python prompt, or of a class without methods. Without
    ``constants``, what a stage may change itself is left out, such as a list that it appends to.
    """
    texts: dict[str, str] = {}
    for item in _used(kind):
        if isinstance(item, type | FunctionType):
            text = _class_text(item) if isinstance(item, type) else _function_text(item)
            if text is None and item is kind:
                return None
            texts[item.__qualname__] = text or ""
        elif isinstance(item, tuple) and constants:
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
        if isinstance(item, type):
            ahead += [base for base in item.__mro__[1:] if base.__module__ == kind.__module__]
        for name in _globals(item) & names.keys():
            for value in _layers(names[name]):
                if isinstance(value, type | FunctionType):
                    here = value.__module__ == kind.__module__
                    ahead.append(value if here else sys.modules.get(value.__module__))
                elif isinstance(value, ModuleType):
                    ahead.append(value)
                elif isinstance(value, (*PLAIN, *OTHERS)):
                    yield name, value


def _constant(value: Any) -> str:
    """Return a constant as text; of what is no plain value the type, as ``repr`` may differ."""
    try:
        return json.dumps(value, sort_keys=True, default=_part)
    except (TypeError, ValueError):
        return type(value).__name__


def _part(value: Any) -> Any:
    """Return what JSON has no form for, as JSON."""
    if isinstance(value, set | frozenset):
        return sorted(map(_constant, value))
    if isinstance(value, (bytes, PurePath, Enum)):
        return repr(value)
    if isinstance(value, re.Pattern):  # whose repr is cut off
        return [_constant(value.pattern), value.flags]
    return type(value).__name__


def _layers(value: Any) -> Iterator[Any]:
    """Return a value, and of a function that was decorated, as by ``functools.cache``, those in it.

    What a layer reads counts, and its decorator by the name that stands above the function.
    """
    yield value
    while callable(value) and not isinstance(value, type) and hasattr(value, "__wrapped__"):
        value = value.__wrapped__
        yield value


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
