"""A tag's history is an undo stack."""

from __future__ import annotations

import json

import pytest

from pipeline.store.tags import PROTECTED_MOVES, Tag, moved, parse
from pipeline.terms.errors import IntegrityError

A, B, C, D = (letter * 64 for letter in "abcd")


def promoted(*digests: str) -> Tag:
    tag = None
    for digest in digests:
        tag = moved(tag, digest, "promote", run="trial", verdict="pass")
    assert tag is not None
    return tag


def back(tag: Tag) -> Tag:
    assert tag.before is not None
    return moved(tag, tag.before, "rollback")


def test_two_rollbacks_go_two_moves_back_and_then_there_is_nothing():
    tag = promoted(A, B, C)
    tag = back(tag)
    assert tag.digest == B
    tag = back(tag)
    assert tag.digest == A
    assert tag.before is None


def test_what_is_promoted_after_a_rollback_lies_on_what_was_rolled_back_to():
    tag = moved(back(promoted(A, B)), C, "promote")
    assert back(tag).digest == A


def test_a_rollback_far_back_takes_all_between_away_and_forward_puts_one_on_top():
    tag = moved(promoted(A, B, C), A, "rollback")
    assert tag.before is None
    again = moved(tag, C, "rollback")
    assert (again.digest, again.before) == (C, A)


def test_an_artifact_that_came_back_has_the_place_of_its_last_move():
    tag = promoted(A, B, A)
    assert back(tag).digest == B
    assert back(back(tag)).digest == A


def test_each_move_says_from_where_why_and_on_whose_verdict():
    history = json.loads(back(promoted(A, B)).file())["history"]
    assert [(m["from"], m["digest"], m["why"], m["run"], m["verdict"]) for m in history] == [
        (None, A, "promote", "trial", "pass"),
        (A, B, "promote", "trial", "pass"),
        (B, A, "rollback", None, None),
    ]


WITHOUT_MOVES = f'{{"digest": "{A}", "time": 1}}'.encode()
ELSEWHERE = promoted(A).file().replace(A.encode(), b"../../etc")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"time": 1}', WITHOUT_MOVES, ELSEWHERE])
def test_a_damaged_file_is_named(data):
    with pytest.raises(IntegrityError, match=r"best\.json: the file is damaged; delete it"):
        parse(data, "best.json")


def test_every_rollback_within_the_kept_moves_finds_its_bytes():
    digests = [f"{number:064x}" for number in range(30)]
    tag = promoted(*digests)
    for _ in range(PROTECTED_MOVES - 1):
        assert tag.before in tag.protected
        tag = back(tag)
    assert digests[0] not in tag.protected


def test_what_was_rolled_back_from_is_kept_so_that_the_way_forward_stays():
    tag = back(promoted(A, B))
    assert B not in tag.stack
    assert B in tag.protected
