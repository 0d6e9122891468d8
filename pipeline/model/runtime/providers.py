"""Providers: where they compute, what their bundles can be and need, whether they are here."""

from __future__ import annotations

from typing import Final, Literal

from rarefy.pipeline.model.runtime import onnx_runtime
from rarefy.pipeline.terms.errors import ProviderError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINO",
}
"""What session_options.json calls a provider: ONNX Runtime's names, and OpenVINO itself."""
DEVICES = {"cpu": "cpu", "openvino": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
"""The device that holds a provider's tensors."""
PORTABLE: Final = ("tensorrt", "openvino")
"""The providers that have none of the operators of ONNX Runtime's own."""
Products = Literal["fused", "qdq"]
"""The form of int8 products: operators of ONNX Runtime's own, or pairs of quantizers."""
DYNAMIC: Final = ("dynamic", "mixed", "search")
"""Modes of a plan, or of ``quantize``, in which ranges of inputs may be taken at run time."""
GPU: Final = "onnxruntime-gpu[cuda,cudnn]>=1.31"
"""ONNX Runtime with the libraries of CUDA, which it does not find on a machine without them."""
RUNTIMES: Final = {
    "cpu": ("onnxruntime>=1.31",),
    "cuda": (GPU,),
    "tensorrt": (GPU, onnx_runtime.TENSORRT),
    "openvino": ("openvino>=2026.4.1",),
}
"""A provider -> what runs the graph, as pip takes it."""


def library(provider: str) -> str:
    """Return the name of the module that runs a provider's bundles."""
    if provider == "openvino":
        return "openvino"
    return "onnxruntime"


def is_on_cpu(provider: str) -> bool:
    """Return whether a provider computes on the CPU, in its memory."""
    return DEVICES[provider] == "cpu"


def available() -> list[str]:
    """Return ``PROVIDERS``' names of those that the installed libraries include.

    Raises ProviderError if ONNX Runtime is not installed.
    """
    onnx_runtime.check_installed()
    import onnxruntime

    from rarefy.pipeline.model.runtime import openvino

    names: list[str] = onnxruntime.get_available_providers()
    if openvino.installed():
        names = [*names, PROVIDERS["openvino"]]
    return names


def check_available(provider: str) -> None:
    """Raise ProviderError if a provider is not installed, or a GPU's does not start here."""
    check_included(provider)
    if not is_on_cpu(provider) and (why := onnx_runtime.inactive(PROVIDERS[provider])):
        raise ProviderError(f"provider {provider!r} is not active: {why}")


def check_included(provider: str) -> None:
    """Raise ProviderError if the installed libraries do not include a provider."""
    if provider not in PROVIDERS:
        raise ProviderError(f"provider {provider!r}: expected one of {', '.join(PROVIDERS)}")
    if provider == "openvino":
        from rarefy.pipeline.model.runtime import openvino

        openvino.check_installed()
    elif provider == "cpu":  # every build has it, so it need not be imported
        onnx_runtime.check_installed()
    elif PROVIDERS[provider] not in available():
        raise ProviderError(
            f"provider {provider!r} is not active: the installed onnxruntime has only "
            f"{', '.join(available())}"
        )


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
