"""Without ONNX Runtime, everything that needs it says what to install."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rarefy.pipeline.model.runtime import onnx_runtime, providers
from rarefy.pipeline.terms.errors import ProviderError

ASKED: dict[str, Callable[[Path], Any]] = {
    "the providers": lambda _: providers.available(),
    "cpu": lambda _: providers.check_available("cpu"),
    "cuda": lambda _: providers.check_available("cuda"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_missing_is_said_with_the_remedy(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match="not installed; pip install onnxruntime, or"):
        ASKED[asked](tmp_path)


def test_a_session_that_cannot_be_made_raises_one_of_the_refusals() -> None:
    import onnxruntime

    with pytest.raises(onnx_runtime.refusals()):
        onnxruntime.InferenceSession(b"no model", providers=["CPUExecutionProvider"])


def test_a_provider_is_active_if_a_session_starts_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    asked = onnx_runtime.inactive.__wrapped__
    assert asked("CPUExecutionProvider") is None
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn"))
    found = asked("CUDAExecutionProvider")  # a build without it leaves the session on the CPU
    assert found == "the session runs on CPUExecutionProvider"
    assert capsys.readouterr().out == ""


def test_tensorrt_s_missing_libraries_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime

    def refuse(*_given: Any, **_more: Any) -> None:
        raise RuntimeError("/onnxruntime_src/pybind.cc:729 Please install TensorRT libraries as")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    found = onnx_runtime.inactive.__wrapped__("TensorrtExecutionProvider")
    assert found == ("the libraries of TensorRT are missing: pip install 'tensorrt>=10.13.2,<11'")


@pytest.mark.parametrize(
    ("cpu", "cuda", "told"),
    [
        (["MatMulIntegerToFloat"] * 18, ["MatMul"] * 6 + ["Add"] * 40, "18 on CPU.*, 6 on CUDA"),
        (["Gather", "Add"], ["MatMul", "Gemm"], None),
        (["Gather", "Add"], ["Add"], "2 on CPU.*, 1 on CUDA"),
    ],
)
def test_the_matrix_products_say_where_a_graph_runs(cpu, cuda, told):
    """A CPU int8 graph on a GPU: the provider is active, but runs only minor nodes."""
    parts = [
        SimpleNamespace(
            ep_name=f"{name}ExecutionProvider",
            get_nodes=lambda names=names: [SimpleNamespace(op_type=one) for one in names],
        )
        for name, names in (("CPU", cpu), ("CUDA", cuda))
    ]
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)
    with pytest.raises(ProviderError, match=told) if told else nullcontext():
        onnx_runtime.check_placement(session, "cuda", "CUDAExecutionProvider")
