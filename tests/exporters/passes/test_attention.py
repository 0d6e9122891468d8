"""Attention in one operator gives PyTorch's answers, padded and ragged, for every architecture."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from rarefy.exporters import fusion, parity
from rarefy.exporters.passes import attention, clean, first_token, mask, positions, scale
from tests.breadth import broad
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


@pytest.mark.slow
@pytest.mark.parametrize("name", broad(WHOLE, "Bert", "MPNet"))
def test_every_layer_s_attention_becomes_one_operator(name, rows):
    graph, expected, count = rewritten(name, rows)
    counts = fusion.histogram(graph)
    assert count == counts["If"] == 2
    assert counts["Softmax"] == 0
    assert parity.check(TASK, graph, expected, "fp32", "attention").max_difference < 1e-5


def test_only_rows_with_padding_take_the_branch_with_a_mask(rows):
    """Whichever branch is spoilt, the rows that take it, and no others, answer differently."""
    graph, expected, _ = rewritten("Bert", rows)
    expected = [case for case in expected if case.feed["input_ids"].size > 1]  # one has no rival
    padded = [(case.feed["attention_mask"] == 0).any() for case in expected]
    assert {*padded} == {True, False}
    for branch, spoilt in (("then_branch", [not each for each in padded]), ("else_branch", padded)):
        broken = ir.from_proto(ir.to_proto(graph))
        for step in broken.graph:
            if step.op_type == "If":
                attend = next(
                    n for n in step.attributes[branch].as_graph() if n.op_type[:3] == "Att"
                )
                attend.attributes["scale"] = ir.AttrFloat32("scale", 1e-3)
        session = onnxruntime.InferenceSession(
            ir.to_proto(broken).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        moved = [
            not np.allclose(session.run(None, case.feed)[0], case.logits, atol=1e-4)
            for case in expected
        ]
        assert moved == spoilt


@pytest.mark.slow
def test_attention_of_another_kind_stays_what_it_is(rows):
    """DeBERTa's scores have terms of their own for positions."""
    graph, expected, count = rewritten("DebertaV2", rows)
    assert count == 0
    assert fusion.histogram(graph)["Softmax"] == 2
    parity.check(TASK, graph, expected, "fp32", "attention")
