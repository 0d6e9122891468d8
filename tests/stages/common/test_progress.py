"""Steps of equal weight are reported as one progress."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rarefy.stages.common.progress import Steps


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_the_whole_never_goes_back_and_ends_at_its_total(parts: list[int]) -> None:
    told: list[float] = []
    steps = Steps(lambda done, total, note: told.append(done / total), len(parts))
    for length in parts:
        step = steps.next("a step")
        for done in range(length + 1):
            step(done, length, "a part")
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] <= 1
    assert parts[-1] == 0 or told[-1] == 1
