"""Write one form of a checkpoint by OpenVINO, int8 by NNCF.

    convert.py CHECKPOINT ROWS FORM OUTPUT

``int8``: ``nncf.quantize`` for transformers, with its own SmoothQuant and bias correction.
``float`` and ``fp32`` are the same file, and differ in how it is compiled: of itself, OpenVINO
computes in bf16 on CPUs that have it. All are compiled with the latency hint (``compile.json``).
"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
import torch
from transformers import AutoModelForSequenceClassification

FORMS = {
    "int8": {},
    "float": {},
    "fp32": {"INFERENCE_PRECISION_HINT": "f32"},
}
"""Form -> what it is compiled with, besides the hint."""


def main() -> None:
    checkpoint, path, form, output = sys.argv[1:]
    torch.set_grad_enabled(False)
    rows = [
        {name: np.array([ids]) for name, ids in row.items()}
        for row in json.loads(Path(path).read_text())
    ]
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    example = {name: torch.tensor(ids) for name, ids in rows[0].items()}
    graph = openvino.convert_model(model, example_input=example)
    if form == "int8":
        import nncf

        graph = nncf.quantize(
            graph,
            nncf.Dataset(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
        )
    Path(output).mkdir(parents=True, exist_ok=True)
    openvino.save_model(graph, Path(output) / "model.xml")
    properties = {"PERFORMANCE_HINT": "LATENCY", **FORMS[form]}
    (Path(output) / "compile.json").write_text(json.dumps(properties))


if __name__ == "__main__":
    main()
