"""Only what is new is kept, and the rest is counted by where it stands."""

from __future__ import annotations

from pipeline.stage.split import Split
from stages.novel import Novel


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


def test_a_pair_is_known_whichever_text_is_first():
    new = Novel({"eval": split("eval", ["a b"], ["c d"])})
    assert not new.add(("c d", "a b"), "files")
    assert new.add(("a b", "another"), "files")


def test_where_texts_are_read_apart_each_text_that_is_held_out_is_known():
    held = {"train": split("train", ["t u"], ["v w"]), "eval": split("eval", ["a b"], ["c d"])}
    new = Novel(held, apart=True)
    assert not new.add(("other", "C d"), "files")
    assert not new.add(("a b", None), "files")
    assert new.add(("t u", "other"), "files"), "texts of train may be learned again"


def test_the_form_of_characters_does_not_count():
    new = Novel({"eval": split("eval", ["Le caf\u00e9 \u00e9tait bon", "good film"])})
    assert not new.add(("le cafe\u0301 e\u0301tait bon", None), "files")
    assert not new.add(("\uff47\uff4f\uff4f\uff44 fi\u00adlm", None), "files")
