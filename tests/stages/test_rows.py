"""Tokenized rows on disk: the same rows as a list would hold, without its memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from pipeline.stage.split import Split
from stages import training
from stages.finetune import Finetune
from stages.rows import Rows, groups, lengths
from tests.models import TASK
from tests.stages.trainings import same_weights


def test_rows_are_what_the_task_encodes(tiny_encoder, make_context):
    told = []
    context = make_context(rows=2500, progress=lambda *what: told.append(what))
    _, tokenizer = training.open_network(context, tiny_encoder)
    split = context.split("train")
    more = Split("unlabelled", "more.jsonl", "0" * 64, ["a fine film", ""], None, None)
    rows = training.labelled_rows(context, tokenizer, split, more, numbered=True)
    expected = [
        row | {"labels": label, "row": index}
        for index, (row, label) in enumerate(
            zip(
                context.task.encoder.encode(tokenizer, split)
                + context.task.encoder.encode(tokenizer, more),
                [*split.labels, -100, -100],
                strict=True,
            )
        )
    ]
    assert list(rows) == expected
    assert told == [(done, 2500, "train: tokenizing") for done in (1000, 2000, 2500)]
    assert lengths(rows).tolist() == [len(row["input_ids"]) for row in expected]
    order = random.Random(0).sample(range(len(rows)), 50)
    assert [rows[row] for row in order] == [expected[row] for row in order]
    assert (rows[-1], rows[2:4]) == (expected[-1], expected[2:4])
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_training_on_them_gives_the_same_bytes_as_on_a_list(tiny_encoder, make_context, tmp_path):
    def trained(name, kind):
        context = make_context(work=tmp_path / name)
        training.prepare(context)
        network, tokenizer = training.open_network(context, tiny_encoder)
        rows = kind(training.labelled_rows(context, tokenizer, context.split("train")))
        stage = Finetune(learning_rate=2e-3, epochs=1, batch_size=8)
        training.train(context, stage, network, tokenizer, rows, TASK.objective.training_loss())
        return network

    assert same_weights(trained("rows", lambda rows: rows), trained("list", list))


def test_lists_may_have_lengths_of_their_own(tmp_path):
    """A task need not give a row's lists the same length."""
    rows, given = (
        Rows(tmp_path),
        [{"input_ids": [1, 2, 3], "spans": [-7]}, {"input_ids": [], "spans": [2**31 - 1, 5]}],
    )
    rows.extend(row | {"labels": at} for at, row in enumerate(given))
    assert list(rows) == [given[0] | {"labels": 0}, given[1] | {"labels": 1}]
    assert rows.lengths.tolist() == [3, 0]


def test_memory_does_not_grow_with_the_tokens(tmp_path):
    """As lists, these 5,000 rows take 30 MB."""
    tracemalloc.start()
    try:
        rows = Rows(tmp_path)
        for start in range(0, 5000, 100):
            ids = range(start + 1000, start + 1128)
            rows.extend([{"input_ids": list(ids), "labels": 0} for _ in range(100)])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000
    assert rows[4999]["input_ids"][0] == 5900


def test_no_file_is_left_behind(tmp_path):
    rows = Rows(tmp_path)
    rows.extend([{"input_ids": [1], "labels": 0}])
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_group_are_known_and_those_without_one_are_alone(tmp_path):
    given = [{"input_ids": [1], "labels": 0.5, "group": group} for group in (1, 0, -1, 1, -1)]
    rows = Rows(tmp_path)
    rows.extend(given)
    assert list(rows) == given
    for kind in (rows, given):
        found = groups(kind).tolist()
        assert found[0] == found[3]
        assert len(set(found)) == 4
    for kind in (given[2:3], [{"input_ids": [1], "labels": 1}]):
        rows = Rows(tmp_path)
        rows.extend(kind)
        assert groups(rows) is None
        assert groups(kind) is None
