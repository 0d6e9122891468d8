"""Write one int8 form of a checkpoint by Optimum.

    convert.py CHECKPOINT ROWS FORM OUTPUT

The settings are those that Optimum has for CPUs with AVX512-VNNI, per channel. Its quantizer stops
at a graph that its optimizer has fused (``Unable to find data type``), so no form is fused before:
ONNX Runtime fuses what it knows when it loads the graph.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from datasets import Dataset
from optimum.exporters.onnx import onnx_export_from_model
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import (
    AutoCalibrationConfig,
    AutoQuantizationConfig,
)
from transformers import AutoModelForSequenceClassification


def main() -> None:
    checkpoint, path, form, output = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name) / "float", Path(name) / "int8"
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, attn_implementation="eager"
        )
        onnx_export_from_model(model, source, task="text-classification")
        quantizer = ORTQuantizer.from_pretrained(source, file_name="model.onnx")
        static = form.startswith("static")
        config = AutoQuantizationConfig.avx512_vnni(
            is_static=static,
            per_channel=True,
            operators_to_quantize=["MatMul", "Gemm"] if form == "static-products" else None,
        )
        ranges = None
        if static:
            rows = Dataset.from_list(json.loads(Path(path).read_text()))
            ranges = quantizer.fit(
                dataset=rows,
                calibration_config=AutoCalibrationConfig.minmax(rows),
                operators_to_quantize=config.operators_to_quantize,
            )
        quantizer.quantize(
            save_dir=made,
            quantization_config=config,
            calibration_tensors_range=ranges,
            file_suffix="",
        )
        Path(output).mkdir(parents=True, exist_ok=True)
        shutil.copy(made / "model.onnx", Path(output) / "model.onnx")


if __name__ == "__main__":
    main()
