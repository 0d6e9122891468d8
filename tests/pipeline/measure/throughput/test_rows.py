"""The rows of a job: documents of a search, lists of a query, and those that a process draws."""

from __future__ import annotations

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.throughput.rows import LISTS, MOST, Job, job_of
from rarefy.pipeline.tasks import find


def split(texts, **more):
    values = {"pairs": None, "labels": [0] * len(texts)} | more
    return Split("eval", "eval.jsonl", "0" * 64, texts, **values)


def test_a_search_is_counted_by_its_documents():
    rows = split(["a query"], corpus=["one", "two", "three"], labels=[[0]])
    job = job_of(find("sentence-embeddings"), rows)
    assert (job.texts, job.pairs, job.corpus, job.lists) == (["one", "two", "three"], None, 3, ())


def test_candidates_of_a_query_are_also_a_list():
    pairs = ["a", "b", "c"]
    rows = split(["q", "r", "q"], pairs=pairs, labels=[1.0, 0.5, 0.0], groups=["q", "r", "q"])
    job = job_of(find("regression"), rows)
    assert job.lists == [[0, 2], [1]]
    drawn = job.draw([0, 1], fewest=1)
    assert sorted(drawn["lists"]) == [(["q", "q"], ["a", "c"]), (["r"], ["b"])]


def test_rows_of_a_user_are_no_list():
    rows = split(["one", "two"], groups=["anna", "anna"])
    assert job_of(find("text-classification"), rows).lists == []


def test_a_process_draws_other_rows_and_repeats_few():
    job = Job([str(row) for row in range(MOST + 500)], lists=[[row] for row in range(LISTS + 5)])
    first, second = (job.draw([0, number], fewest=64) for number in (0, 1))
    assert len(set(first["texts"])) == MOST
    assert set(first["texts"]) != set(second["texts"])
    assert len(first["lists"]) == LISTS
    few = Job(["one", "two"], ["a", "b"]).draw([0, 0], fewest=64)
    assert len(few["texts"]) == len(few["pairs"]) == 64
    assert set(zip(few["texts"], few["pairs"], strict=True)) == {("one", "a"), ("two", "b")}
