"""A model repository for Triton Inference Server: texts in, logits and labels out.

Three models: the graph (``NAME``), its tokenizer in the Python backend (``NAME_tokenizer``), and
the ensemble of both (``NAME_text``). The keys of a config are those of the server's
``model_config.proto``, and what the ONNX Runtime backend reads of them was looked up in its source.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from exporters.bundle.files import write_json
from exporters.forms import graph
from exporters.forms.source import Source, check_anywhere
from pipeline.model import runtime
from pipeline.terms.errors import ModelError, RecipeError
from pipeline.terms.vocabulary import NAME

BATCH = 64
"""The most texts that the server computes at once."""
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

    Raises RecipeError if the name cannot be a model's, and ModelError if the bundle labels words or
    is for CPUs with VNNI.
    """
    if not NAME.fullmatch(name):
        raise RecipeError(
            f"{name!r} cannot be a model's name: write lower-case letters, digits, '.', '_' and "
            "'-', up to 64"
        )
    check_anywhere(source, "triton")
    if source.signature.get("words"):
        raise ModelError(
            f"{source.name}: the form 'triton' answers whole texts, and this bundle labels "
            "the words of a text"
        )
    for each in (name, f"{name}_tokenizer", f"{name}_text"):
        (folder / each / "1").mkdir(parents=True)
    _graph(source, folder / name, name)
    _tokenizer(source, folder / f"{name}_tokenizer", f"{name}_tokenizer")
    _ensemble(source, folder / f"{name}_text", name)
    (folder / "README.md").write_text(_readme(source, name), encoding="utf-8")


def _graph(source: Source, folder: Path, name: str) -> None:
    """Write the model of the ONNX Runtime backend."""
    graph.copy(source, folder / "1" / runtime.MODEL)
    options = runtime.read(source.folder, runtime.OPTIONS)
    providers = set(options.get("providers", ()))
    level = LEVELS.get(str(options["graph_optimization_level"]))
    precision = source.precision.upper()
    optimization = f" graph {{ level : {level} }}" if level is not None else ""
    optimization += TENSORRT % precision if "TensorrtExecutionProvider" in providers else ""
    kind = "KIND_GPU" if providers & GPU else "KIND_CPU"
    threads = int(options["intra_op_num_threads"])
    text = [
        *_head(name, 'backend: "onnxruntime"'),
        _tensors("input", ((each, "TYPE_INT64", -1) for each in source.inputs)),
        _output(source, folder),
        f"instance_group [ {{ count: 1 kind: {kind} }} ]",
        # Else one client's texts would change the answers to another's.
        *([] if source.rows_interact else ["dynamic_batching { }"]),
        *([f"optimization {{{optimization} }}"] if optimization else []),
        _parameter("intra_op_thread_count", str(threads)),
    ]
    _config(folder, text)


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
    text = [
        *_head(name, 'backend: "python"'),
        _tensors("input", ((each, "TYPE_STRING", 1) for each in _asked(source))),
        _tensors("output", ((each, "TYPE_INT64", -1) for each in source.inputs)),
        "instance_group [ { count: 1 kind: KIND_CPU } ]",
    ]
    _config(folder, text)


def _ensemble(source: Source, folder: Path, name: str) -> None:
    """Write the ensemble. The server wants a folder for its version, which is empty."""
    (folder / "1" / ".keep").touch()
    output = str(source.output["name"])
    steps = [
        _step(f"{name}_tokenizer", _asked(source), source.inputs),
        _step(name, source.inputs, [output]),
    ]
    text = [
        *_head(f"{name}_text", 'platform: "ensemble"'),
        _tensors("input", ((each, "TYPE_STRING", 1) for each in _asked(source))),
        _output(source, folder),
        "ensemble_scheduling {\n  step [\n" + ",\n".join(steps) + "\n  ]\n}",
    ]
    _config(folder, text)


def _asked(source: Source) -> list[str]:
    return [TEXT, PAIR] if source.signature.get("pairs") else [TEXT]


def _head(name: str, runs: str) -> list[str]:
    return [f'name: "{name}"', runs, f"max_batch_size: {BATCH}"]


def _tensors(key: str, tensors: Iterable[tuple[str, str, int]], more: str = "") -> str:
    """Return inputs or outputs, each with a name, a type and one axis beside the batch."""
    given = [
        f'  {{ name: "{name}" data_type: {kind} dims: [ {size} ]{more} }}'
        for name, kind, size in tensors
    ]
    return f"{key} [\n" + ",\n".join(given) + "\n]"


def _output(source: Source, folder: Path) -> str:
    """Return the model's output, and write its labels, one a line, if it has some."""
    more = ""
    if source.labels:
        lines = [" ".join(label.split()) for label in source.labels]
        (folder / LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")
        more = f' label_filename: "{LABELS}"'
    size = int(source.output["shape"][-1])
    return _tensors("output", [(str(source.output["name"]), "TYPE_FP32", size)], more)


def _step(model: str, given: Iterable[str], made: Iterable[str]) -> str:
    """Return a step of the ensemble, whose tensors have the names that the model gives them."""
    maps = [f'      input_map {{ key: "{each}" value: "{each}" }}' for each in given]
    maps += [f'      output_map {{ key: "{each}" value: "{each}" }}' for each in made]
    return f'    {{\n      model_name: "{model}"\n      model_version: -1\n' + (
        "\n".join(maps) + "\n    }"
    )


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'


def _config(folder: Path, text: list[str]) -> None:
    (folder / "config.pbtxt").write_text("\n".join(text) + "\n", encoding="utf-8")


def _readme(source: Source, name: str) -> str:
    from jinja2 import Template

    template = Path(__file__).with_name("triton_readme.md.j2").read_text(encoding="utf-8")
    opset = max(entry.version for entry in source.graph.opset_import if not entry.domain)
    text: str = Template(template, keep_trailing_newline=True).render(
        name=name,
        output=source.output["name"],
        labels=len(source.labels),
        pairs=bool(source.signature.get("pairs")),
        windows=bool(source.signature.get("windows")),
        interact=source.rows_interact,
        least_runtime=source.least_runtime,
        max_length=source.max_length,
        opset=opset,
    )
    return text
