"""Write one int8 form of a checkpoint by Olive.

    convert.py CHECKPOINT ROWS FORM OUTPUT

Every form is a workflow of Olive's own passes. ``fused`` has the fusions of ONNX Runtime's
transformers optimizer, which need a graph traced with eager attention.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from olive import run
from olive.data.registry import Registry

DYNAMIC = {"type": "OnnxDynamicQuantization", "precision": "int8", "per_channel": True}
STATIC = {
    "type": "OnnxStaticQuantization",
    "precision": "int8",
    "activation_type": "uint8",
    "per_channel": True,
    "calibrate_method": "MinMax",
    "quant_format": "QDQ",
    "data_config": "rows",
}
FORMS = {
    "dynamic": (DYNAMIC,),
    "dynamic-fused": ("fuse", DYNAMIC),
    "static": (STATIC,),
    "static-products": (STATIC | {"op_types_to_quantize": ["MatMul", "Gemm"]},),
    "static-fused": ("fuse", STATIC),
}
"""Form -> its passes after the conversion."""


class Rows(torch.utils.data.Dataset):
    """The calibration rows, with labels that nobody reads."""

    def __init__(self, path: str) -> None:
        self.rows = json.loads(Path(path).read_text())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[dict[str, torch.Tensor], int]:
        return {name: torch.tensor(ids) for name, ids in self.rows[row].items()}, 0


@Registry.register_dataset("race_rows")
def rows(path: str) -> Rows:
    return Rows(path)


def workflow(checkpoint: str, path: str, form: str, output: str) -> dict:
    """Return the workflow of a form."""
    config = json.loads((Path(checkpoint) / "config.json").read_text())
    fuse = {
        "type": "OrtTransformersOptimization",
        "model_type": "bert",
        "num_heads": config["num_attention_heads"],
        "hidden_size": config["hidden_size"],
        "opt_level": 0,
    }
    names = list(json.loads(Path(path).read_text())[0])
    axes = {name: {"0": "batch", "1": "tokens"} for name in names}
    passes = [fuse if each == "fuse" else each for each in FORMS[form]]
    return {
        "input_model": {
            "type": "HfModel",
            "model_path": checkpoint,
            "task": "text-classification",
            "load_kwargs": {"attn_implementation": "eager"},
            "io_config": {
                "input_names": names,
                "input_shapes": [[1, 16]] * len(names),
                "input_types": ["int64"] * len(names),
                "output_names": ["logits"],
                "dynamic_axes": axes | {"logits": {"0": "batch"}},
            },
        },
        "data_configs": [
            {
                "name": "rows",
                "load_dataset_config": {"type": "race_rows", "path": path},
                "pre_process_data_config": {"type": "skip_pre_process"},
                "post_process_data_config": {"type": "skip_post_process"},
                "dataloader_config": {"batch_size": 1},
            }
        ],
        "passes": {
            "convert": {"type": "OnnxConversion", "target_opset": 17},
            **{f"step{at}": each for at, each in enumerate(passes)},
        },
        "output_dir": output,
        "no_artifacts": True,
    }


def main() -> None:
    checkpoint, path, form, output = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        asked = workflow(checkpoint, path, form, str(Path(folder) / "out"))
        asked["cache_dir"] = str(Path(folder) / "cache")
        run(asked)
        (made,) = Path(folder, "out").rglob("*.onnx")
        Path(output).mkdir(parents=True, exist_ok=True)
        shutil.copy(made, Path(output) / "model.onnx")


if __name__ == "__main__":
    main()
