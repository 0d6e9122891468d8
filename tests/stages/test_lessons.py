"""The rows that injection trains and probes with."""

from __future__ import annotations

import pytest

from pipeline.model import checkpoint
from pipeline.stage.split import Split
from pipeline.terms.errors import DataError
from stages import lessons, training
from stages.knowledge import Fact
from tests.models import FILL, GOOD


@pytest.fixture
def prepared(encoder, make_context):
    tokenizer = checkpoint.load_tokenizer(encoder.directory)
    facts = [Fact(f"{a} {b}", "means", "good smooth") for a in FILL for b in GOOD[:2]]
    facts += [Fact(f"{a} {b}", "means", "bad rough") for a in FILL for b in GOOD[2:4]]
    facts += [Fact(f"{a} {b}", "means", "part") for a in FILL for b in GOOD[4:]]
    context = make_context(rows=20)
    return lessons.prepare(context, tokenizer, facts, held_out=0.3, templates={}), tokenizer


def test_a_control_without_two_objects_of_a_relation_is_refused(encoder, make_context):
    tokenizer = checkpoint.load_tokenizer(encoder.directory)
    facts = [Fact(f"{a} {b}", "part_of", "good") for a in FILL for b in GOOD]
    with pytest.raises(DataError, match=r"^inject\.shuffled: no relation .* has two objects"):
        lessons.prepare(
            make_context(rows=20), tokenizer, facts, held_out=0.3, templates={}, shuffled=True
        )


def masked(rows):
    return [sum(label >= 0 for label in row["labels"]) for row in rows]


def test_every_row_asks_for_something(prepared):
    made, _ = prepared
    assert min(masked(made.rows(2, 0.5))) > 0
    assert min(masked(made.probe_rows(True)) + masked(made.probe_rows(False))) > 0


def test_text_is_as_large_a_share_as_was_asked_for(prepared):
    made, _ = prepared
    bare, mixed = len(made.rows(2, 0.0)), len(made.rows(2, 0.25))
    assert bare == 2 * len(made.learned)
    assert (mixed - bare) / mixed == pytest.approx(0.25, abs=0.02)


def test_only_texts_that_are_drawn_are_tokenized(prepared, make_context, monkeypatch):
    made, tokenizer = prepared
    train = make_context(rows=20).split("train")
    more = Split("unlabelled", "", "1" * 64, ["grey story", "warm scene"], ["film", "actor"], None)
    texts = lessons.TaskTexts(tokenizer, [train, more], 32)
    own, counts = lessons.encode, []

    def counted(tokenizer, texts, pairs, length):
        counts.append(len(texts))
        return own(tokenizer, texts, pairs, length)

    monkeypatch.setattr(lessons, "encode", counted)
    monkeypatch.setattr(training, "CHUNK", 4)
    places = [21, 3, 3, 20, 0]
    found = [tokenizer.decode(each.row["input_ids"][1:-1]) for each in texts.encoded(places)]
    assert found == [
        "warm scene [SEP] actor",
        *[train.texts[3]] * 2,
        "grey story [SEP] film",
        train.texts[0],
    ]
    assert counts == [2, 2, 1]
    assert len(texts) == 22
    counts.clear()
    made.text_rows(5)
    assert sum(counts) == 5


def test_the_probe_asks_the_same_at_every_call_and_training_does_not(prepared):
    made, _ = prepared
    assert made.probe_rows(True) == made.probe_rows(True)
    assert made.rows(1, 0.0) != made.rows(1, 0.0)


def test_no_fact_is_both_learned_and_held_out(prepared):
    made, tokenizer = prepared
    learned, kept = (
        {tokenizer.decode(text.row["input_ids"]) for text, _ in facts}
        for facts in (made.learned, made.held_out)
    )
    assert learned
    assert kept
    assert not learned & kept
