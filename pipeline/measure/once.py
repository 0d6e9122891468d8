"""Draw an interval once: verdict, report, pictures and history ask for the same ones again.

Each takes thousands of draws, and their seed is fixed. A result is found again by the bytes of the
arguments, not by the object that holds them, so whoever changes measurements gets other intervals.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import threading
from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar

from pipeline.stage.tasks import Task

P = ParamSpec("P")
T = TypeVar("T")

MOST = 1000
"""Results that are kept for each function: a few numbers each."""


def once(function: Callable[P, T]) -> Callable[P, T]:
    """Keep the newest results of a function whose result depends on its arguments alone.

    A task may be the first argument: tasks are compared as they are, all else by its bytes.
    """
    kept: dict[Hashable, T] = {}
    lock = threading.Lock()

    @functools.wraps(function)
    def kept_or_computed(*arguments: P.args, **named: P.kwargs) -> T:
        tasks = tuple(each for each in arguments if isinstance(each, Task))
        others = [None if isinstance(each, Task) else each for each in arguments]
        key = tasks, hashlib.sha256(pickle.dumps([others, named])).digest()
        with lock:
            if key in kept:
                return kept[key]
        result = function(*arguments, **named)
        with lock:
            while len(kept) >= MOST:
                del kept[next(iter(kept))]
            kept[key] = result
        return result

    return kept_or_computed
