"""What a provider's bundles can be is known before a model exists."""

from __future__ import annotations

import pytest

from rarefy.pipeline.model.runtime.providers import form, refusal


@pytest.mark.parametrize(
    ("precision", "mode", "provider", "products", "said"),
    [
        ("int8", "dynamic", "cpu", "fused", None),
        ("int8", "search", "cpu", "fused", None),
        ("int8", "static", "openvino", "fused", None),
        ("int8", "static", "tensorrt", "fused", None),
        ("int8", None, "openvino", "fused", None),  # a planner of one's own, which does not say
        ("fp16", "dynamic", "cuda", "fused", None),
        ("fp16", "dynamic", "tensorrt", "fused", None),
        (None, None, "cuda", "fused", None),
        ("fp16", "dynamic", "cpu", "fused", "write quantize: {precision: int8} for"),
        ("fp16", "dynamic", "openvino", "fused", "{precision: int8, mode: static} for"),
        ("int8", "static", "cuda", "qdq", "int8 on the cuda provider is slower than fp16"),
        ("int8", "dynamic", "cpu", "qdq", "write quantize: {mode: static}"),
        ("int8", "mixed", "tensorrt", "fused", "write quantize: {mode: static}"),
        ("int8", "search", "openvino", "fused", "write quantize: {mode: static}"),
    ],
)
def test_a_plan_that_a_provider_cannot_have_is_refused_with_the_remedy(
    precision, mode, provider, products, said
):
    found = refusal(precision, mode, provider, products)
    assert found is None if said is None else said in found


@pytest.mark.parametrize(
    ("provider", "products", "refused"),
    [("cpu", "fused", False), ("cpu", "qdq", True), ("openvino", "fused", True)],
)
def test_4_bits_are_for_onnx_runtime_on_a_cpu(provider, products, refused):
    found = refusal("int8", "static", provider, products, four_bits=True)
    assert ("write quantize: {weights: int8, embeddings: int8}" in (found or "")) is refused
    assert refusal("int8", "static", provider, products) is None


def test_other_runtimes_than_onnx_runtime_have_pairs_of_quantizers():
    assert form("cpu", "fused") == form("cuda", "fused") == "fused"
    assert form("cpu", "qdq") == form("openvino", "fused") == form("tensorrt", "fused") == "qdq"
