"""Which numbers of two verdicts are comparable, and how much they differ."""

from __future__ import annotations

import pytest

from rarefy.pipeline.verdict.history_numbers import (
    Key,
    Machine,
    Past,
    Reading,
    apart,
    changes,
    comparable,
    readings,
)
from tests.pipeline.report.verdicts import MACHINE, NEWER, asked

LATENCY, SIZE, MEMORY = Key("latency_p50", "cpu"), Key("size"), Key("memory")


def past(*budgets: object, machine: str = "a") -> Past:
    return Past(
        id=1, time="", recipe="r", command="", bundle=None, outcome="pass", evidence=[],
        commit=None, machine=Machine(machine, {}), again=False, budgets=list(budgets),
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "first", "second", "told"),
    [
        (LATENCY, Reading(1.0, 0.9, 1.1), Reading(1.3, 1.2, 1.4), True),
        (LATENCY, Reading(1.3, 1.2, 1.4), Reading(1.0, 0.9, 1.1), True),
        (LATENCY, Reading(1.0, 0.9, 1.1), Reading(1.15, 1.1, 1.2), False),
        (LATENCY, Reading(1.0, 0.9, 1.1), Reading(None, None, None), False),
        (SIZE, Reading(10, 10, 10), Reading(11, 11, 11), True),
        (SIZE, Reading(10, None, None), Reading(10, None, None), False),
        (MEMORY, Reading(10, 10, 10), Reading(11, 11, 11), False),  # one sample each
    ],
)
def test_two_numbers_differ_where_their_intervals_do_not_meet(
    key: Key, first: Reading, second: Reading, told: bool
) -> None:
    assert apart(key, first, second) is told


def test_only_what_is_counted_is_compared_between_machines() -> None:
    assert comparable(LATENCY, past(), past())
    assert not comparable(LATENCY, past(), past(machine="b"))
    assert comparable(SIZE, past(), past(machine="b"))


def test_budgets_on_one_axis_are_one_reading_with_the_worst_outcome() -> None:
    found = readings(
        past(
            asked("accuracy", "min", 0.8, 0.86),
            asked("accuracy", "min", 0.9, 0.86),
            asked("accuracy", "max_drop", 0.02, 0.01, against="teacher"),
        )
    )
    own = found[Key("accuracy")]
    assert (own.outcome, own.limits, len(own.reasons)) == ("fail", {"min": 0.9}, 2)
    relative = found[Key("accuracy", None, "max_drop", "teacher")]
    assert (relative.outcome, relative.value) == ("pass", 0.01)


def test_a_measurement_without_evidence_does_not_stand_as_a_pass() -> None:
    alone = past()
    assert alone.standing == "pass"
    alone.evidence.append("another machine")
    assert alone.standing == "inconclusive"


def test_what_changed_on_a_machine_is_named() -> None:
    assert changes(Machine("a", MACHINE), Machine("b", NEWER)) == [
        "libraries.onnxruntime: 1.31.0 → 1.32.0"
    ]
