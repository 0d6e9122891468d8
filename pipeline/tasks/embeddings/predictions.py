"""What a user reads of an embedding."""

from __future__ import annotations

import math
from typing import NamedTuple

SHOWN = 5
"""The numbers that are printed."""


class Embedding(NamedTuple):
    """The embedding of a text."""

    vector: list[float]

    def columns(self) -> list[str]:
        """Return the first numbers and the Euclidean norm."""
        numbers = " ".join(f"{number:.4f}" for number in self.vector[:SHOWN])
        more = " …" if len(self.vector) > SHOWN else ""
        return [f"{numbers}{more}", f"norm {math.hypot(*self.vector):.4f}"]
