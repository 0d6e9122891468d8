"""What Triton's Python backend gives a model, and what its ensembles do, in a few lines.

A stand-in: the module has the names and signatures that a model uses, no more, and no server.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

NAME = "triton_python_backend_utils"


class Tensor:
    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray[Any, Any]:
        return self._array


class Request:
    def __init__(self, **tensors: list[str]) -> None:
        """Texts arrive as bytes: batch × 1."""
        self._inputs = [
            Tensor(name, np.array([[text.encode()] for text in texts], np.object_))
            for name, texts in tensors.items()
        ]

    def inputs(self) -> list[Tensor]:
        return self._inputs


class TritonError:
    def __init__(self, message: str) -> None:
        self._message = message

    def message(self) -> str:
        return self._message


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        assert type(output_tensors) is list
        self._tensors, self._error = output_tensors, error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    return next((each for each in request.inputs() if each.name() == name), None)


@contextmanager
def tokenizer(repository: Path, name: str) -> Iterator[Any]:
    """Load a model of the Python backend from its repository, as the server does."""
    utils = ModuleType(NAME)
    for each in (Tensor, TritonError, InferenceResponse, get_input_tensor_by_name):
        setattr(utils, each.__name__, each)
    spec = importlib.util.spec_from_file_location("model", repository / name / "1" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    before = sys.modules.get(NAME)
    sys.modules[NAME] = utils
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        folder = str(repository / name)
        model.initialize({"model_repository": folder, "model_version": "1", "model_config": "{}"})
        yield model
    finally:
        sys.modules.pop(NAME)
        if before is not None:
            sys.modules[NAME] = before


def answer(repository: Path, configs: dict[str, Any], ensemble: str, **texts: list[str]) -> Any:
    """Run the steps of an ensemble of a tokenizer and a graph; return its output.

    ``configs``: each model's config, as protobuf's JSON has it.
    """
    import onnxruntime

    first, second = configs[ensemble]["ensembleScheduling"]["step"]
    with tokenizer(repository, first["modelName"]) as model:
        (response,) = model.execute([Request(**texts)])
    assert not response.has_error(), response.error().message()
    made = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
    known = {name: made[key] for key, name in first["outputMap"].items()}
    given = {key: known[name] for key, name in second["inputMap"].items()}
    path = repository / second["modelName"] / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == set(given)
    (output,) = second["outputMap"]
    return session.run([output], given)[0]


def steps(config: str) -> list[str]:
    """Return the names of the models that an ensemble's config names, in order."""
    return [
        json.loads(line.partition(": ")[2]) for line in config.splitlines() if "model_name" in line
    ]
