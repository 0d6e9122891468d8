"""What bundles for a provider can be and need: precisions, int8 products, packages to install."""

from __future__ import annotations

from typing import Final, Literal

from pipeline.model.onnx_runtime import TENSORRT
from pipeline.model.runtime import is_on_cpu
from pipeline.terms.vocabulary import PORTABLE

Products = Literal["fused", "qdq"]
DYNAMIC: Final = ("dynamic", "mixed", "search")
"""Modes of a plan, or of ``quantize``, in which ranges of inputs may be taken at run time."""
GPU: Final = "onnxruntime-gpu[cuda,cudnn]>=1.31"
"""ONNX Runtime with the libraries of CUDA, which it does not find on a machine without them."""
RUNTIMES: Final = {
    "cpu": ("onnxruntime>=1.31",),
    "cuda": (GPU,),
    "tensorrt": (GPU, TENSORRT),
    "openvino": ("openvino>=2026.4.1",),
}
"""A provider -> what runs the graph, as pip takes it."""


def packages(provider: str) -> list[str]:
    """Return what the predict.py of a bundle for a provider requires, as pip takes it."""
    return [*RUNTIMES[provider], "tokenizers", "numpy"]


def form(provider: str, products: Products) -> Products:
    """Return the form of int8 products: that which is asked for, if the provider has both."""
    if provider in PORTABLE:
        return "qdq"
    return products


def refusal(
    precision: str | None,
    mode: str | None,
    provider: str,
    products: Products,
    four_bits: bool = False,
) -> str | None:
    """Return why a provider cannot have a plan, and what to write instead; None if it can.

    ``precision`` and ``mode``: those of a plan, or of the stage that will write it; None if it does
    not say. ``four_bits``: whether it has embeddings or weights in int4.
    """
    static = form(provider, products) == "qdq"
    if provider == "cuda" and precision == "int8":
        return (
            "int8 on the cuda provider is slower than fp16; "
            "write quantize: {precision: fp16} for this target"
        )
    if is_on_cpu(provider) and precision == "fp16":
        instead = "{precision: int8}"
        if static:
            instead = "{precision: int8, mode: static}"
        return (
            f"fp16 on the {provider} provider is slower than fp32; "
            f"write quantize: {instead} for this target"
        )
    if static and precision == "int8" and mode in DYNAMIC:
        return (
            "int8 as QuantizeLinear and DequantizeLinear needs ranges that are known "
            "beforehand; write quantize: {mode: static}"
        )
    if four_bits and (static or provider != "cpu"):
        return (
            "int4 is for the operators of ONNX Runtime on a CPU; write quantize: "
            "{weights: int8, embeddings: int8} for this target"
        )
    return None
