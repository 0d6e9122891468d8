"""The options with which TensorRT runs a graph as it was made.

ONNX Runtime's Python binding takes "True" and "False" alone, its C API "1" and "0" as well.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pipeline.terms.digests import file_sha256


def precision(name: str) -> dict[str, str]:
    """Return the options that let TensorRT compute in the precision of a graph.

    The default is fp32, which rejects fp16 graphs and computes int8 ones in floats. With fp16,
    TensorRT may also compute in fp16 what the graph has in fp32: ONNX Runtime's provider, up to
    1.31 at least, makes weakly typed networks, and has no option for strongly typed ones, which
    TensorRT 10 knows and TensorRT 11 always makes.
    """
    return {
        "trt_fp16_enable": str(name == "fp16"),
        "trt_int8_enable": str(name == "int8"),
    }


def cache(directory: Path) -> dict[str, str]:
    """Return the options that keep the engines of a bundle, and make their folder.

    TensorRT builds an engine at the first call, and again if a row is longer or shorter than
    all before. The name of a cached engine does not depend on the weights
    (microsoft/onnxruntime#6455), so each model needs its own folder.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME")
    home = Path(cache_home) if cache_home else Path.home() / ".cache"
    folder = home / "rarefy" / "tensorrt" / _digest(directory)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


def _digest(directory: Path) -> str:
    """Return a sha256 over all files of a bundle: the graph and the files beside it."""
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.is_file():
            line = f"{path.name} {file_sha256(path)}\n"
            digest.update(line.encode())
    return digest.hexdigest()
