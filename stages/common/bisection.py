"""Find how many of an ordered list fit within a limit."""

from __future__ import annotations

from collections.abc import Callable


def most_within(limit: float, count: int, damage_of: Callable[[int], float]) -> tuple[int, float]:
    """Return the largest number up to ``count`` whose damage is within the limit, and its damage.

    It is found by bisection: more do more damage, nearly always. None does none.
    """
    damage = damage_of(count)
    if damage <= limit:
        return count, damage
    fits, least, over = 0, 0.0, count
    while over - fits > 1:
        middle = (fits + over) // 2
        damage = damage_of(middle)
        if damage <= limit:
            fits, least = middle, damage
        else:
            over = middle
    return fits, least
