"""Attention in one operator gives PyTorch's answers, padded and ragged, for every architecture."""

from __future__ import annotations

import pytest

from exporters import fusion, parity
from exporters.passes import attention, clean, first_token, mask, positions, scale
from tests.exporters.graphs import exported
from tests.models import TASK

WHOLE = ("Bert", "Roberta", "Electra", "DistilBert", "MPNet")


def rewritten(name, rows):
    graph, expected = exported(name, rows)
    mask.apply(graph, 64)
    scale.apply(graph)
    first_token.apply(graph)
    positions.apply(graph, 64)
    count = attention.apply(graph)
    clean.apply(graph)
    return graph, expected, count


@pytest.mark.parametrize("name", WHOLE)
def test_every_layer_s_attention_becomes_one_operator(name, rows):
    graph, expected, count = rewritten(name, rows)
    counts = fusion.histogram(graph)
    assert count == counts["If"] == 2
    assert counts["Softmax"] == 0
    assert parity.check(TASK, graph, expected, "fp32", "attention").max_difference < 1e-5


def test_attention_of_another_kind_stays_what_it_is(rows):
    """DeBERTa's scores have terms of their own for positions."""
    graph, expected, count = rewritten("DebertaV2", rows)
    assert count == 0
    assert fusion.histogram(graph)["Softmax"] == 2
    parity.check(TASK, graph, expected, "fp32", "attention")
