"""A metric of one's own: a function that a budget names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OwnMetric:
    """A function ``metric(predictions, labels)``, under the name that the recipe has for it.

    It returns one number for each row, whose mean is the metric, or one number for all.
    """

    name: str
    function: Callable[[Any, Any], Any]
    code: str
    """The sha256 of its file and of the modules that this imports."""
