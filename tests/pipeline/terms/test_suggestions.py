"""For a misspelled name, suggest the intended one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.pipeline.terms.wording import hint, misspelt, nearest, repeated, synonym

NAMES = ["finetune", "distill", "quantize"]


def test_a_slip_is_answered_with_the_name_that_was_meant() -> None:
    assert nearest("quantise", NAMES) == "quantize"
    assert hint("distil", NAMES) == ", did you mean 'distill'?"


def test_without_a_similar_name_all_are_listed() -> None:
    assert nearest("xyz", NAMES) is None
    assert hint("xyz", NAMES) == "; known: finetune, distill, quantize"
    assert hint("xyz", []) == "; known: none"


@given(st.sampled_from(NAMES), st.data())
def test_one_letter_left_out_is_found_again(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    assert nearest(name[:at] + name[at + 1 :], NAMES) == name


@pytest.mark.parametrize(
    ("name", "other", "typo"),
    [
        ("prodution", "production", True),
        ("producton-eu", "production-eu", True),
        ("prod_eu", "prod-eu", True),
        ("stagin", "staging", True),
        ("prod-a", "prod-b", False),
        ("spam-de", "spam-en", False),
        ("model-v1", "model-v2", False),
        ("release2024", "release2025", False),
        ("production-eu", "production", False),
        ("staging", "production", False),
        ("production", "production", False),
    ],
)
def test_a_typing_error_is_told_from_another_name(name: str, other: str, typo: bool) -> None:
    assert misspelt(name, [other]) == (other if typo else None)


def test_how_alike_a_typing_error_must_be_can_be_said() -> None:
    assert misspelt("distillation", ["distill"]) is None
    assert misspelt("distillation", ["distill"], 0.7) == "distill"
    assert misspelt("my-model", ["model"], 0.7) is None


def test_the_first_name_that_occurs_again_is_found():
    assert repeated(["a", "b", "c", "b", "a"]) == "b"
    assert repeated(["a", "b"]) is None


@pytest.mark.parametrize(
    ("value", "names", "ours"),
    [
        ("lr", ["epochs", "learning_rate"], "learning_rate"),
        ("gpu", ["cpu", "cuda"], "cuda"),
        ("f1", ["accuracy", "macro_f1", "entity_f1"], "macro_f1"),
        ("lr", ["epochs"], None),
    ],
)
def test_what_others_call_it_is_answered_with_our_name(
    value: str, names: list[str], ours: str | None
) -> None:
    assert synonym(value, names) == ours
    assert (f"did you mean {ours!r}?" in hint(value, names)) is bool(ours)
