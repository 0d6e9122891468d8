"""The options with which TensorRT runs a graph."""

from __future__ import annotations

from pathlib import Path

from rarefy.pipeline.model.runtime import tensorrt


def test_a_graph_is_computed_in_its_own_precision():
    assert tensorrt.precision("fp16") == {"trt_fp16_enable": "True", "trt_int8_enable": "False"}
    assert tensorrt.precision("int8") == {"trt_fp16_enable": "False", "trt_int8_enable": "True"}
    assert set(tensorrt.precision("fp32").values()) == {"False"}


def test_engines_of_other_files_are_kept_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    folders = []
    for weights in (b"one", b"two", b"one"):
        (bundle / "model.onnx").write_bytes(weights)
        folders.append(Path(tensorrt.cache(bundle)["trt_engine_cache_path"]))
    assert folders[0] == folders[2] != folders[1]
    assert all(folder.is_dir() for folder in folders)
