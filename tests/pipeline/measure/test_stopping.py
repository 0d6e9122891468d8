"""When sampling stops, tested on made-up counts and seconds."""

import pytest

from rarefy.pipeline.measure.measurements import Latency
from rarefy.pipeline.measure.stopping import FEWEST, LOOKS, Rule

NOTHING = Latency(samples={})


def test_without_a_question_it_takes_the_processes_that_were_asked_for():
    rule = Rule(5, seconds=60)
    assert rule.looks == [5]
    assert rule.stopped(NOTHING, 5, 1.0) == "the limit of 5 processes was reached"


def test_a_question_is_asked_at_few_looks_at_growing_data():
    rule = Rule(5, 60, clear=lambda _: False)
    assert rule.looks == [5, 10, 20, 40]
    assert len(rule.looks) == LOOKS
    assert rule.stopped(NOTHING, 9, 1.0) == ""
    assert rule.stopped(NOTHING, 40, 1.0) == "the limit of 40 processes was reached"


def test_the_last_look_is_at_enough_processes_for_any_pass():
    assert Rule(2, 60, clear=lambda _: False).looks == [2, 4, 8, 20]


def test_it_stops_as_soon_as_the_question_is_answered():
    rule = Rule(2, 60, clear=lambda timed: timed.seconds > 3)
    assert rule.stopped(Latency(samples={}, seconds=2), 2, 2.0) == ""
    assert rule.stopped(Latency(samples={}, seconds=4), 4, 4.0) == "the results were clear"


@pytest.mark.parametrize(
    ("count", "spent", "over"),
    [
        (1, 100.0, False),  # fewer than the minimum
        (2, 6.0, False),  # a third process would end after 9 s
        (2, 7.0, True),  # after 10.5 s
        (10, 9.5, True),
    ],
)
def test_no_process_starts_that_would_end_too_late(count, spent, over):
    rule = Rule(2, seconds=10, clear=lambda _: False)
    assert rule.over(count, spent) == over
    reason = "the time limit of 10 s was reached" if over else ""
    assert rule.stopped(NOTHING, count, spent) == reason


def latency(processes):
    return Latency(samples={"candidate": [[1.0]] * processes})


@pytest.mark.parametrize(
    ("count", "spent", "reason"),
    [
        (7, 62.0, ""),  # no look here: it would be a fifth
        (10, 90.0, ""),
        (20, 170.0, "the results were clear"),
        (10, 170.0, "the time limit of 60 s was reached"),
    ],
)
def test_where_only_processes_are_lacking_the_time_limit_waits(count, spent, reason):
    rule = Rule(5, 60, lambda timed: timed.processes >= FEWEST, Latency.repeated)
    assert rule.stopped(latency(count), count, spent) == reason


def test_where_more_processes_would_not_do_the_time_limit_holds():
    rule = Rule(5, 60, lambda _: False, Latency.repeated)
    assert rule.stopped(latency(7), 7, 62.0) == "the time limit of 60 s was reached"
