"""A regular expression that backtracks for ever ends in an error of the model, in one line."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from rarefy.pipeline.terms.errors import ModelError, as_model_error, is_panic


def tokenizer(expression: str) -> Tokenizer:
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(expression), "isolated")
    return made


def test_a_panic_is_an_error_of_the_model() -> None:
    error = pytest.raises(ModelError, match=r"the tokenizer fails on a text: .*retry")
    with error as raised, as_model_error("the tokenizer"):
        tokenizer(r"(a|aa)+$x").encode("a" * 60)
    assert "\n" not in str(raised.value)


def test_other_errors_are_no_panics() -> None:
    assert not is_panic(ValueError("x"))
    with pytest.raises(KeyboardInterrupt), as_model_error("the tokenizer"):
        raise KeyboardInterrupt
