"""Spans of bytes and their sums."""

from __future__ import annotations

from pipeline.model.shape import Shape
from pipeline.stage.resources import Span, Workload, weights

SHAPE = Shape(parameters=10, layers=1, hidden=2, heads=1, intermediate=4, vocabulary=3)


def test_spans_add_up_and_the_greater_of_two_counts():
    assert Span(1, 2) + Span(10, 20) == Span(11, 22)
    assert Span(1, 2) * 3 == Span(3, 6)
    assert Span(1, 9) | Span(4, 5) == Span(4, 9)


def test_a_model_that_may_come_out_smaller_surely_needs_nothing():
    assert weights(SHAPE, copies=2) == Span(80, 80)
    assert weights(SHAPE.shrunk(4)) == Span(0, 24)


def test_a_workload_adds_up_the_splits_that_are_read():
    work = Workload(
        SHAPE,
        rows={"train": 3, "eval": 5},
        tokens={"train": Span(9, 30), "eval": Span(1, 1)},
        longest={"train": 10, "eval": 99},
    )
    read = frozenset({"train", "unlabelled"})
    assert work.tokens_of(read) == Span(9, 30)
    assert (work.rows_of(read), work.longest_of(read)) == (3, 10)
    assert work.texts_of(frozenset({"train", "eval"})) == 8
    several = Workload(SHAPE, rows={"train": 3, "eval": 5}, texts={"train": 7})
    assert several.texts_of(frozenset({"train", "eval"})) == 12
