"""A model repository for Triton Inference Server: texts in, logits and labels out.

Three models: the graph (``NAME``), its tokenizer in the Python backend (``NAME_tokenizer``), and
the ensemble of both (``NAME_text``). The keys of a config are those of the server's
``model_config.proto``, and what the ONNX Runtime backend reads of them was looked up in its source.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rarefy.exporters.bundle.files import write_json
from rarefy.exporters.forms import graph
from rarefy.exporters.forms.source import Source, check_anywhere
from rarefy.pipeline.model.runtime import bundle_files, onnx_runtime
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import NAME

BATCH = 64
"""The most texts that the server computes at once."""
NEWEST = "1.27"
"""The ONNX Runtime of the newest server (December 2026)."""
LABELS = "labels.txt"
LEVELS = {"basic": -1, "extended": 1}
"""ONNX Runtime's level -> the backend's; what is not named runs at ``all``."""
GPU = {"CUDAExecutionProvider", "TensorrtExecutionProvider"}
TENSORRT = (
    ' execution_accelerators { gpu_execution_accelerator : [ { name : "tensorrt" '
    'parameters { key: "precision_mode" value: "%s" } } ] }'
)
"""The backend runs TensorRT in floats of 32 bits unless it is told the precision."""
TEXT, PAIR = "TEXT", "PAIR"


def write(source: Source, folder: Path, name: str) -> None:
    """Write the repository.

    Raises RecipeError if the name cannot be a model's, and ModelError if the bundle labels words,
    is for CPUs with VNNI or OpenVINO, or needs a newer ONNX Runtime than any server has.
    """
    if not NAME.fullmatch(name):
        raise RecipeError(
            f"{name!r} cannot be a model's name: write lower-case letters, digits, '.', '_' and "
            "'-', up to 64"
        )
    check_anywhere(source, "triton")
    _check_runtime(source)
    if source.signature.get("words"):
        raise ModelError(
            f"{source.name}: the form 'triton' predicts entire texts, and this bundle labels "
            "the words of a text"
        )
    for model in (name, f"{name}_tokenizer", f"{name}_text"):
        (folder / model / "1").mkdir(parents=True)
    _graph(source, folder / name, name)
    _tokenizer(source, folder / f"{name}_tokenizer", f"{name}_tokenizer")
    _ensemble(source, folder / f"{name}_text", name)
    (folder / "README.md").write_text(_readme(source, name), encoding="utf-8")


def _check_runtime(source: Source) -> None:
    """Raise ModelError if the server's ONNX Runtime would answer wrongly, or was not measured."""
    if source.provider == "openvino":
        raise ModelError(
            f"{source.name}: it was made for OpenVINO (provider: openvino), and the form 'triton' "
            "runs ONNX Runtime, with which it was not measured; export it for a target "
            "with provider: cpu"
        )
    if onnx_runtime.is_earlier(NEWEST, source.least_runtime):
        raise ModelError(
            f"{source.name}: its 4-bit embeddings need ONNX Runtime {source.least_runtime}, and "
            f"Triton's newest server has {NEWEST}, which misreads them; write "
            "quantize: {embeddings: int8}"
        )


def _graph(source: Source, folder: Path, name: str) -> None:
    """Write the model of the ONNX Runtime backend."""
    graph.copy(source, folder / "1" / bundle_files.MODEL)
    options = bundle_files.read(source.folder, bundle_files.OPTIONS)
    providers = set(options.get("providers", ()))
    kind = "KIND_CPU"
    if providers & GPU:
        kind = "KIND_GPU"
    text = _head(name, 'backend: "onnxruntime"')
    text.append(_tensors("input", source.inputs, "TYPE_INT64", -1))
    text.append(_output(source, folder))
    text.append(f"instance_group [ {{ count: 1 kind: {kind} }} ]")
    if not source.rows_interact:
        # Else one client's texts would change the answers to another's.
        text.append("dynamic_batching { }")
    optimization = _optimization(source, options, providers)
    if optimization:
        text.append(f"optimization {{{optimization} }}")
    threads = int(options["intra_op_num_threads"])
    text.append(_parameter("intra_op_thread_count", str(threads)))
    _config(folder, text)


def _optimization(source: Source, options: dict[str, Any], providers: set[str]) -> str:
    """Return the backend's settings for the session's level and for TensorRT."""
    level = LEVELS.get(str(options["graph_optimization_level"]))
    settings = ""
    if level is not None:
        settings += f" graph {{ level : {level} }}"
    if "TensorrtExecutionProvider" in providers:
        settings += TENSORRT % source.precision.upper()
    return settings


def _tokenizer(source: Source, folder: Path, name: str) -> None:
    """Write the model of the Python backend."""
    code = Path(__file__).with_name("triton_tokenizer.py")
    shutil.copyfile(code, folder / "1" / "model.py")
    shutil.copyfile(source.folder / "tokenizer.json", folder / "1" / "tokenizer.json")
    settings = {
        "inputs": source.inputs,
        "max_length": source.max_length,
        "truncation_side": source.signature.get("truncation_side", "right"),
        "pad_token": source.tokenizer.get("pad_token", ""),
        "pairs": bool(source.signature.get("pairs")),
    }
    write_json(folder / "1" / "settings.json", settings)
    text = _head(name, 'backend: "python"')
    text.append(_tensors("input", _texts(source), "TYPE_STRING", 1))
    text.append(_tensors("output", source.inputs, "TYPE_INT64", -1))
    text.append("instance_group [ { count: 1 kind: KIND_CPU } ]")
    _config(folder, text)


def _ensemble(source: Source, folder: Path, name: str) -> None:
    """Write the ensemble. The server wants a folder for its version, which is empty."""
    (folder / "1" / ".keep").touch()
    output = str(source.output["name"])
    tokenize = _step(f"{name}_tokenizer", _texts(source), source.inputs)
    compute = _step(name, source.inputs, [output])
    text = _head(f"{name}_text", 'platform: "ensemble"')
    text.append(_tensors("input", _texts(source), "TYPE_STRING", 1))
    text.append(_output(source, folder))
    text.append(f"ensemble_scheduling {{\n  step [\n{tokenize},\n{compute}\n  ]\n}}")
    _config(folder, text)


def _texts(source: Source) -> list[str]:
    """Return the names of the tensors that hold texts."""
    if source.signature.get("pairs"):
        return [TEXT, PAIR]
    return [TEXT]


def _head(name: str, runs: str) -> list[str]:
    return [f'name: "{name}"', runs, f"max_batch_size: {BATCH}"]


def _tensors(key: str, names: Iterable[str], kind: str, size: int, more: str = "") -> str:
    """Return inputs or outputs of one type, with one axis beside the batch."""
    tensors = []
    for name in names:
        tensors.append(f'  {{ name: "{name}" data_type: {kind} dims: [ {size} ]{more} }}')
    return f"{key} [\n" + ",\n".join(tensors) + "\n]"


def _output(source: Source, folder: Path) -> str:
    """Return the model's output, and write its labels, one a line, if it has some."""
    more = ""
    if source.labels:
        lines = [" ".join(label.split()) for label in source.labels]
        text = "\n".join(lines)
        (folder / LABELS).write_text(f"{text}\n", encoding="utf-8")
        more = f' label_filename: "{LABELS}"'
    name = str(source.output["name"])
    size = int(source.output["shape"][-1])
    return _tensors("output", [name], "TYPE_FP32", size, more)


def _step(model: str, inputs: Iterable[str], outputs: Iterable[str]) -> str:
    """Return a step of the ensemble, whose tensors have the names that the model gives them."""
    lines = ["    {", f'      model_name: "{model}"', "      model_version: -1"]
    for name in inputs:
        lines.append(f'      input_map {{ key: "{name}" value: "{name}" }}')
    for name in outputs:
        lines.append(f'      output_map {{ key: "{name}" value: "{name}" }}')
    lines.append("    }")
    return "\n".join(lines)


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'


def _config(folder: Path, text: list[str]) -> None:
    lines = "\n".join(text)
    (folder / "config.pbtxt").write_text(f"{lines}\n", encoding="utf-8")


def _readme(source: Source, name: str) -> str:
    from jinja2 import Template

    path = Path(__file__).with_name("triton_readme.md.j2")
    template = Template(path.read_text(encoding="utf-8"), keep_trailing_newline=True)
    text: str = template.render(
        name=name,
        output=source.output["name"],
        labels=len(source.labels),
        pairs=bool(source.signature.get("pairs")),
        windows=bool(source.signature.get("windows")),
        interact=source.rows_interact,
        least_runtime=source.least_runtime,
        max_length=source.max_length,
        opset=source.opset,
    )
    return text
