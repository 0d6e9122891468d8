"""Deployed graphs give PyTorch's answers for any batch: every length, any padding, uneven heads."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters import onnx
from exporters.passes import attention, clean, first_token, mask, positions, residual, scale
from stages import surgery
from tests.exporters.conftest import tiny
from tests.exporters.graphs import INPUTS, PAD
from tests.models import TASK

LONGEST = 40
FAMILIES = ("Bert", "MPNet", "uneven Bert", "uneven Roberta")


@cache
def pair(family: str) -> tuple[Any, onnxruntime.InferenceSession, list[str]]:
    """Return a model, its deployed graph in a session, and the names of its inputs."""
    name = family.split()[-1]
    model = tiny(name)
    if family.startswith("uneven"):
        for part, kept in zip(surgery.parts(model, "heads"), ([2], [0, 1, 3]), strict=True):
            surgery.keep_units(part, torch.tensor(kept))
        for part, kept in zip(surgery.parts(model, "neurons"), ([5], range(9, 40)), strict=True):
            surgery.keep_units(part, torch.tensor(list(kept)))
    graph = onnx.export(model, INPUTS.get(name, onnx.INPUTS[:2]), TASK)
    mask.apply(graph, LONGEST)
    scale.apply(graph)
    first_token.apply(graph)
    positions.apply(graph, LONGEST)
    assert attention.apply(graph) == 2
    residual.apply(graph)
    clean.apply(graph)
    written = ir.to_proto(graph).SerializeToString()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    return model, session, [value.name for value in session.get_inputs()]


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw ids and a mask, batch × tokens: rows without padding, or with it anywhere."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, LONGEST))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    ids = generator.integers(5, 100, shape)
    kept = generator.random(shape) < draw(st.sampled_from([1.0, 1.0, 0.9, 0.5]))
    kept[:, 0] = True  # the token that the classifier reads
    return np.where(kept, ids, PAD), kept.astype(np.int64)


@pytest.mark.parametrize("family", FAMILIES)
@given(batch=batches())
@settings(max_examples=60, deadline=None)
def test_any_batch_gets_pytorchs_answers(family, batch):
    model, session, names = pair(family)
    ids, kept = batch
    feed = {"input_ids": ids, "attention_mask": kept, "token_type_ids": np.zeros_like(ids)}
    feed = {name: feed[name] for name in names}
    with torch.no_grad():
        expected = model(**{name: torch.tensor(value) for name, value in feed.items()}).logits
    (found,) = session.run(None, feed)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
