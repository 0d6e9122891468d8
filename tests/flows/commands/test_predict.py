"""A bundle's answer to a text, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Said


def test_a_session_that_fell_back_to_the_cpu_ends_with_5(
    rarefy: Callable[..., Said], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the driver is too old: ONNX Runtime goes on with the CPU and says nothing."""
    import onnxruntime

    real = onnxruntime.InferenceSession
    promised = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: promised)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, **_: real(path, options, providers=["CPUExecutionProvider"]),
    )
    said = rarefy("predict", bundle, "w1 w2", "--provider", "cuda", "--json")
    assert said.code == 5
    expected = "provider 'cuda' is not active: the session runs on CPUExecutionProvider"
    assert json.loads(said.out) == {"error": expected, "exit_code": 5}
