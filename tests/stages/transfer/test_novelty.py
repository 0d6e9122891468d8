"""Only what is new is kept, and the rest is counted by where it stands."""

from __future__ import annotations

from rarefy.pipeline.data.split import Split
from rarefy.stages.transfer.novelty import Novel


def split(name, texts, pairs=None):
    return Split(name, f"{name}.jsonl", "0" * 64, texts, pairs, None)


def test_known_and_repeated_texts_are_counted_and_left_out():
    new = Novel({"train": split("train", ["a b"]), "eval": split("eval", ["c d"])})
    added = [new.add((text, None), "spans") for text in ("A, b!", "c d", "e f", "E F", "g h")]
    assert added == [False, False, True, False, True]
    assert len(new) == 2
    assert new.counts == {"in_train": 1, "in_eval": 1, "spans": 2, "repeated": 1}


def test_a_pair_is_known_by_both_texts_and_a_query_of_a_search_alone():
    new = Novel(
        {"train": split("train", ["a b"], ["c d"]), "eval": split("eval", ["query of eval"])}
    )
    assert new.add(("a b", "other words"), "spans")
    assert not new.add(("a b", "C d"), "spans")
    assert not new.add(("Query of eval", "anything"), "spans")
    assert dict(new.counts) == {"spans": 1, "in_train": 1, "in_eval": 1}


def test_a_pair_is_known_in_either_order():
    new = Novel({"eval": split("eval", ["a b"], ["c d"])})
    assert not new.add(("c d", "a b"), "from_files")
    assert new.add(("e f", "a b"), "from_files")
    assert not new.add(("a b", "e f"), "from_files")
    assert new.counts == {"in_eval": 1, "from_files": 1, "repeated": 1}


def test_a_text_of_dev_or_eval_alone_is_known_to_what_reads_texts_alone():
    pairs = {name: split(name, [f"{name} one"], [f"{name} two"]) for name in ("train", "eval")}
    rows = [("eval one", "x"), ("x", "Eval two!"), ("train one", "x"), ("eval two", None)]
    alone, together = Novel(pairs, singly=True), Novel(pairs)
    assert [alone.add(row, "spans") for row in rows] == [False, False, True, False]
    assert [together.add(row, "spans") for row in rows] == [True] * 4
    assert alone.counts == {"in_eval": 3, "spans": 1}
