"""What stands in the predict.py of a bundle for OpenVINO instead of ONNX Runtime's session."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import openvino

from exporters.runner import HERE, read


# The session, by OpenVINO.
class Session:
    """The graph compiled by OpenVINO, with the two methods of a session that ``run`` needs."""

    def __init__(self) -> None:
        threads = read("session_options.json")["intra_op_num_threads"]
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",
        }
        self.model = openvino.Core().compile_model(HERE / "model.onnx", "CPU", settings)

    def get_inputs(self) -> list[Any]:
        """Return the inputs, each with its name."""
        return [SimpleNamespace(name=value.any_name) for value in self.model.inputs]

    def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
        """Return the outputs of one call; a request of its own for each, since threads may call."""
        return list(self.model.create_infer_request().infer(feed).values())
