"""Open a bundle's graph in OpenVINO; in a bundle, this file is ``predict_session.py``."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openvino


def open_session(folder: Path) -> Any:
    """Return a session of the graph in a bundle's folder."""
    stored = json.loads((folder / "session_options.json").read_text(encoding="utf-8"))
    return Session(folder / "model.onnx", stored["intra_op_num_threads"])


class Session:
    """The graph compiled by OpenVINO, with the two methods of a session that are needed."""

    def __init__(self, graph: Path, threads: int) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",
        }
        self.model = openvino.Core().compile_model(graph, "CPU", settings)

    def get_inputs(self) -> list[Any]:
        """Return the inputs, each with its name."""
        return [SimpleNamespace(name=value.any_name) for value in self.model.inputs]

    def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
        """Return the outputs of one call; a request of its own for each, since threads may call."""
        request = self.model.create_infer_request()
        return list(request.infer(feed).values())
