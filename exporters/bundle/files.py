"""The files of a bundle besides the graph, with which it runs on another machine."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from rarefy.exporters import saving
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.runtime import adapter_file, onnx_runtime, providers, tensorrt
from rarefy.pipeline.model.runtime.bundle_files import MODEL, OPTIONS, SIGNATURE
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.runtime.providers import PROVIDERS, check_available
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import ProviderError

SUMS = "SHA256SUMS"
SAMPLES = 3
HERE = Path(__file__).parent
PROGRAM = "predict.py"
SESSION, TASK = "predict_session.py", "predict_task.py"
"""The two files of a bundle's program that differ between bundles."""
ADAPTER = "predict_adapter.py"
"""The part of the program that runs an adapter which is a file."""
SESSIONS = {"openvino": "session_openvino.py"}
"""A provider -> the file that opens its graph, if ONNX Runtime does not."""
TASKS = {
    "text-classification": "task_text_classification.py",
    "multi-label-classification": "task_multi_label_classification.py",
    "regression": "task_regression.py",
    "sentence-embeddings": "task_sentence_embeddings.py",
    "token-classification": "task_token_classification.py",
}
"""A task -> the file that makes its answers."""
"""The task whose answers a task of another package gives, unless it is based on one of ours."""
HUB_TAGS: Mapping[str, str] = {
    "token-classification": "token-classification",
    "sentence-embeddings": "sentence-similarity",
}
"""A task -> the Hub's ``pipeline_tag``, if it is not ``text-classification``."""
ROLES = {
    MODEL: "graph",
    saving.WEIGHTS: "graph",
    "config.json": "config",
    "tokenizer.json": "tokenizer",
    "tokenizer_config.json": "tokenizer",
    SIGNATURE: "signature",
    OPTIONS: "session",
    "samples/request.json": "sample",
    "samples/response.json": "sample",
    "README.md": "card",
    PROGRAM: "runner",
    SESSION: "runner",
    TASK: "runner",
    SUMS: "checksums",
    adapter_file.FILE: "adapter",
    ADAPTER: "runner",
    **dict.fromkeys(TASKS.values(), "runner"),
}
"""Every file of a bundle and its role in the manifest; ``samples/`` only if the recipe wants it,
weights in a file of their own only if they are too large for the graph's. An adapter's file, and
the programs for it and for other tasks, only if it is not merged."""


def write_model(
    graph: ir.Model,
    output: Path,
    *,
    answer: ir.Value,
    model: Any,
    tokenizer: Any,
    task: Task,
    split: Split,
    provider: str,
    threads: int,
    level: str,
    needs: dict[str, Any],
) -> int:
    """Write the graph, the tokenizer, the labels, the signature and the session options.

    Args:
        graph: the graph, with its precision in its metadata.
        output: the bundle's folder.
        answer: the task's output, of the graph or of a head that reads the graph's.
        model: the PyTorch model, for config.json.
        tokenizer: its tokenizer; truncation and padding are switched off.
        task: defines the labels and the longest row.
        split: tells whether rows are pairs.
        provider: the target's.
        threads: the number of intra-op threads.
        level: the session's optimization level.
        needs: what a machine must have to give correct answers, for the signature.

    Returns:
        The bytes of the graph and its weights.
    """
    size = saving.save(graph, output)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(output / "tokenizer.json"))
    write_json(output / "tokenizer_config.json", _tokenizer_config(tokenizer, task.max_length))
    config = describing(model)
    config["id2label"] = {str(index): label for index, label in enumerate(task.labels)}
    config["label2id"] = {label: index for index, label in enumerate(task.labels)}
    config |= task.settings
    config |= task.presenter.bundle_settings(split)
    write_json(output / "config.json", config)
    signature = _signature(graph, answer, task, split)
    if tokenizer.truncation_side == "left":
        # tokenizer.json does not say at which end long texts are cut.
        signature["truncation_side"] = "left"
    signature["least_onnxruntime"] = least_runtime(graph)
    write_json(output / SIGNATURE, signature | needs)
    options: dict[str, Any] = {"schema": "rarefy.session/1"}
    options |= session_providers(provider, graph.metadata_props["precision"])
    options["intra_op_num_threads"] = threads
    options["execution_mode"] = "sequential"
    options["graph_optimization_level"] = level
    write_json(output / OPTIONS, options)
    return size


def least_runtime(graph: ir.Model) -> str:
    """Return the first version of ONNX Runtime that answers correctly by a graph."""
    operators = set()
    for node in graph.graph.all_nodes():
        operators.add(node.op_type)
    opset = graph.graph.opset_imports[""]
    return onnx_runtime.least_version(opset, operators)


def _tokenizer_config(tokenizer: Any, max_length: int) -> dict[str, Any]:
    config = {
        "tokenizer_class": type(tokenizer).__name__,
        "model_max_length": max_length,
        "model_input_names": tokenizer.model_input_names,
    }
    for key, token in tokenizer.special_tokens_map.items():
        config[key] = str(token)
    return config


def session_providers(provider: str, precision: str) -> dict[str, Any]:
    """Return the providers of a session and, for TensorRT, its options: CUDA runs the rest."""
    if provider != "tensorrt":
        return {"providers": [PROVIDERS[provider]]}
    options = tensorrt.precision(precision)
    return {
        "providers": [PROVIDERS[provider], PROVIDERS["cuda"]],
        "provider_options": [options, {}],
    }


def describing(model: Any) -> dict[str, Any]:
    """Return a model's config.json without what is of this machine: its folder and the library.

    Nothing here reads more than the labels. Tools that serve models look up the rest: the class,
    sizes, the padding token.
    """
    values: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    for key in ("_name_or_path", "transformers_version"):
        values.pop(key, None)
    return values | {"architectures": [type(parts.unwrapped(model)).__name__]}


def choose(output: Path, task: Task, split: Split, provider: str) -> Task:
    """Choose for the bundle by its own answers to a split, and write it to its config.json.

    They are computed on the CPU if this machine lacks the bundle's provider.
    """
    model = opened(output, provider)
    outputs = model.units(*task.encoder.requests(split))
    chosen = task.head.choose(outputs, split)
    write_json(output / "config.json", model.config | chosen)
    return task.of_model(chosen)


def write_samples(output: Path, task: Task, split: Split, provider: str) -> None:
    """Write a sample request of a few rows, word for word, and this bundle's answer to it.

    The answer is computed on the CPU if this machine lacks the bundle's provider.
    """
    texts, pairs = task.encoder.requests(split)
    texts = list(texts[:SAMPLES])
    if pairs is not None:
        pairs = list(pairs[:SAMPLES])
    model = opened(output, provider)
    answers = task.head.predictions(model.units(texts, pairs))
    rows = [task.presenter.user_text(text) for text in texts]
    (output / "samples").mkdir()
    write_json(output / "samples/request.json", {"texts": rows, "pairs": pairs})
    # Rounded last, as predict.py does: two labels may be equal in six decimals.
    shown = task.presenter.postprocess(rows, answers)
    predictions = [_rounded(answer._asdict()) for answer in shown]
    write_json(output / "samples/response.json", {"predictions": predictions})


def write_card(output: Path, facts: dict[str, Any]) -> None:
    """Write README.md from the template ``model_card.md.j2``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # The card is Markdown, in which HTML escapes would be visible.
    templates = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
        keep_trailing_newline=True,
    )
    packages = providers.packages(facts["provider"])
    template = templates.get_template("model_card.md.j2")
    card = template.render(facts, packages=shlex.join(packages))
    (output / "README.md").write_text(card, encoding="utf-8")


def write_program(output: Path, task: str, provider: str) -> None:
    """Copy predict.py, and the files of its session and its task, as they are.

    ``task``: the name of one of ``TASKS``; see ``Presenter.answers_like``.
    """
    shutil.copyfile(HERE / "predict.py", output / PROGRAM)
    session = SESSIONS.get(provider, "session_onnxruntime.py")
    shutil.copyfile(HERE / session, output / SESSION)
    shutil.copyfile(HERE / TASKS[task], output / TASK)


def write_other_tasks(output: Path) -> None:
    """Copy what a bundle with adapters needs to answer their tasks, whichever these are."""
    for name in (ADAPTER, *TASKS.values()):
        shutil.copyfile(HERE / name, output / name)


def roles(output: Path, *, samples: bool) -> dict[str, str]:
    """Return path -> role of every file that this bundle has."""
    roles = dict(ROLES)
    if not (output / saving.WEIGHTS).exists():
        del roles[saving.WEIGHTS]
    if not (output / adapter_file.FILE).exists():
        for name in (adapter_file.FILE, ADAPTER, *TASKS.values()):
            del roles[name]
    if not samples:
        roles = {name: role for name, role in roles.items() if role != "sample"}
    return roles


def write_sums(output: Path) -> None:
    """Write SHA256SUMS over every file, in the format that ``sha256sum -c`` reads."""
    paths = sorted(path for path in output.rglob("*") if path.is_file() and path.name != SUMS)
    lines = []
    for path in paths:
        name = path.relative_to(output).as_posix()
        lines.append(f"{file_sha256(path)}  {name}\n")
    (output / SUMS).write_text("".join(lines))


def hub_tag(task: str, pairs: bool) -> str:
    """Return the Hub's ``pipeline_tag`` of a task; a regression on ``pairs`` ranks texts."""
    if task == "regression" and pairs:
        return "text-ranking"
    return HUB_TAGS.get(task, "text-classification")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; equal values give equal bytes."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    path.write_text(f"{text}\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Return a value of JSON with its numbers in six decimals, as predict.py prints them."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(np.round(value, 6))
    return value


def opened(output: Path, provider: str) -> BundleModel:
    try:
        check_available(provider)
    except ProviderError:
        provider = "cpu"
    return BundleModel(output, provider=provider)


def _signature(graph: ir.Model, output: ir.Value, task: Task, split: Split) -> dict[str, Any]:
    """Return signature.json: the task, the graph's inputs and output, and how texts are read."""
    assert output.shape is not None
    shape = []
    for size in output.shape:
        shape.append(size if isinstance(size, int) else str(size.value))
    inputs = []
    for value in graph.graph.inputs:
        if value.is_initializer():  # an adapter's, which no call gives
            continue
        inputs.append(_tensor(value, "int64", ["batch", "sequence"]))
    _, pairs = task.encoder.requests(split)
    signature = {
        "schema": "rarefy.signature/1",
        "task": task.name,
        "inputs": inputs,
        "outputs": [_tensor(output, "float32", shape)],
        "max_length": task.max_length,
        "pairs": pairs is not None,
    }
    if task.encoder.of_words:
        signature["words"] = True
    if task.windows:
        signature["windows"] = True
    return signature


def _tensor(value: ir.Value, kind: str, shape: Sequence[str | int | None]) -> dict[str, Any]:
    return {"name": value.name, "dtype": kind, "shape": list(shape)}
