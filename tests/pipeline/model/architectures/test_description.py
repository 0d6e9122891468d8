"""The defaults of a description."""

from __future__ import annotations

from rarefy.pipeline.model.architectures.families import Maker, never, plain


def test_a_plain_layer_is_one_matrix():
    assert plain("query", "key") == (Maker("query", 1, 1, positions=False), Maker("key"))


def test_nothing_stays_by_default():
    assert never({"model_type": "bert"}) == ""
