"""Deployed graphs give PyTorch's answers for any batch: every length, any padding, uneven heads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rarefy.exporters import parity, trace
from rarefy.exporters.passes import (
    attention,
    clean,
    first_token,
    integer_matmul,
    mask,
    positions,
    relative_bias,
    residual,
    scale,
)
from rarefy.pipeline.model import checkpoint
from rarefy.stages.surgery import units as surgery
from tests.breadth import broad
from tests.exporters.families import PAD, classifier, integer
from tests.models import TASK

LONGEST = 40
FAMILIES = (
    *("bert", "mpnet", "electra", "modernbert", "deberta-v2", "gemma3_text"),
    *("uneven bert", "uneven roberta", "uneven mpnet"),
)
STATIC = ("mpnet", "uneven bert", "uneven mpnet")
OTHERWISE = ("modernbert", "deberta-v2", "gemma3_text")
"""The families whose attentions do not become one operator each."""
Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


@cache
def made(family: str) -> Any:
    """Return a classifier, perhaps with one head of four in its first layer, three in the next."""
    model = classifier(family.split()[-1])
    if family.startswith("uneven"):
        for part, kept in zip(surgery.parts(model, "heads"), ([2], [0, 1, 3]), strict=True):
            surgery.keep_units(part, torch.tensor(kept))
        for part, kept in zip(surgery.parts(model, "neurons"), ([5], range(9, 40)), strict=True):
            surgery.keep_units(part, torch.tensor(list(kept)))
        checkpoint.count_heads(model)
    return model


@cache
def rewritten(family: str) -> Any:
    """Return the deployed graph in float."""
    graph = trace.export(made(family), trace.INPUTS, TASK)
    for rewrite in (mask, scale, relative_bias, first_token, positions, attention, residual):
        bounds = [LONGEST] if rewrite in (mask, relative_bias, positions) else []
        found = rewrite.apply(graph, *bounds)
        clean.apply(graph)
        if rewrite is attention:
            assert found == (0 if family in OTHERWISE else 2)
    return ir.to_proto(graph)


@cache
def deployed(family: str, *, static: bool = False) -> onnxruntime.InferenceSession:
    """Return the deployed graph in a session, in float or in int8 with static ranges."""
    graph = ir.from_proto(rewritten(family))
    if static:
        plan = integer(made(family), "static")
        assert integer_matmul.apply(graph, plan) >= len(plan.linears)
        clean.apply(graph)
    written = ir.to_proto(graph).SerializeToString()
    return onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])


def both(family: str, batch: Batch, *, static: bool = False) -> tuple[Any, Any]:
    """Return PyTorch's answers to a batch and the deployed graph's."""
    ids, kept = batch
    session = deployed(family, static=static)
    feed = {"input_ids": ids, "attention_mask": kept, "token_type_ids": np.zeros_like(ids)}
    feed = {value.name: feed[value.name] for value in session.get_inputs()}
    with torch.no_grad():
        expected = made(family)(**{name: torch.tensor(value) for name, value in feed.items()})
    return expected.logits.numpy(), session.run(None, feed)[0]


def batch_of(rows: int, tokens: int, seed: int, share: float) -> Batch:
    """Return ids and a mask, batch × tokens, with that share of tokens and padding between them."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(5, 100, (rows, tokens))
    kept = generator.random((rows, tokens)) < share
    kept[:, 0] = True  # the token that the classifier reads
    return np.where(kept, ids, PAD), kept.astype(np.int64)


SHARES: Sequence[float] = (1.0, 1.0, 0.9, 0.5)
BATCHES = st.builds(
    batch_of,
    st.integers(1, 4),
    st.integers(1, LONGEST),
    st.integers(0, 2**16),
    st.sampled_from(SHARES),
)


@pytest.mark.parametrize("family", broad(FAMILIES, "bert", "uneven mpnet"))
@given(batch=BATCHES)
@settings(max_examples=60, deadline=None)
def test_any_batch_gets_pytorchs_answers(family, batch):
    expected, found = both(family, batch)
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("family", broad(STATIC, "uneven mpnet"))
def test_with_static_ranges_batches_get_the_answers_that_rounding_allows(family):
    """As the export checks it: a row may cross a boundary, so many batches are judged together."""
    pairs = [
        both(
            family, batch_of(1 + seed % 4, 1 + seed % LONGEST, seed, SHARES[seed % 4]), static=True
        )
        for seed in range(3 * LONGEST)
    ]
    parity.compare(TASK, *zip(*pairs, strict=True), "int8", family)
