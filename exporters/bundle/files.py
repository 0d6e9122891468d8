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

from exporters import providers, saving
from pipeline.model import tensorrt
from pipeline.model.runtime import (
    MODEL,
    OPTIONS,
    PROVIDERS,
    SIGNATURE,
    BundleModel,
    check_available,
)
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import ProviderError

SUMS = "SHA256SUMS"
SAMPLES = 3
HERE = Path(__file__).parent
PROGRAM = "predict.py"
SESSION, TASK = "predict_session.py", "predict_task.py"
"""The two files of a bundle's program that differ between bundles."""
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
PLAIN = "text-classification"
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
}
"""Every file of a bundle and its role in the manifest; ``samples/`` only if the recipe wants it,
weights in a file of their own only if they are too large for the graph's."""


def write_model(
    graph: ir.Model,
    output: Path,
    *,
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

    Returns the bytes of the graph and its weights.

    ``level``: the session's optimization level. ``needs``: what a machine must have to give the
    right answers, for the signature.
    """
    size = saving.save(graph, output)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(output / "tokenizer.json"))
    write_json(
        output / "tokenizer_config.json",
        {
            "tokenizer_class": type(tokenizer).__name__,
            "model_max_length": task.max_length,
            "model_input_names": tokenizer.model_input_names,
            **{key: str(token) for key, token in tokenizer.special_tokens_map.items()},
        },
    )
    names = {str(index): label for index, label in enumerate(task.labels)}
    labels = {label: int(index) for index, label in names.items()}
    write_json(
        output / "config.json",
        describing(model)
        | {"id2label": names, "label2id": labels}
        | task.chosen()
        | task.reading(split),
    )
    # tokenizer.json does not say at which end long texts are cut.
    left = {"truncation_side": "left"} if tokenizer.truncation_side == "left" else {}
    write_json(output / SIGNATURE, _signature(graph, task, split) | left | needs)
    write_json(
        output / OPTIONS,
        {
            "schema": "rarefy.session/1",
            **_providers(provider, graph.metadata_props["precision"]),
            "intra_op_num_threads": threads,
            "execution_mode": "sequential",
            "graph_optimization_level": level,
        },
    )
    return size


def _providers(provider: str, precision: str) -> dict[str, Any]:
    """Return the providers of a session and, for TensorRT, its options: CUDA runs the rest."""
    if provider != "tensorrt":
        return {"providers": [PROVIDERS[provider]]}
    return {
        "providers": [PROVIDERS[provider], PROVIDERS["cuda"]],
        "provider_options": [tensorrt.precision(precision), {}],
    }


def describing(model: Any) -> dict[str, Any]:
    """Return a model's config.json without what is of this machine: its folder and the library.

    Nothing here reads more than the labels. Tools that serve models look up the rest: the class,
    sizes, the padding token.
    """
    values: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    left_out = ("_name_or_path", "transformers_version")
    described = {key: value for key, value in values.items() if key not in left_out}
    return described | {"architectures": [type(model).__name__]}


def choose(output: Path, task: Task, split: Split, provider: str) -> Task:
    """Choose for the bundle by its own answers to a split, and write it to its config.json.

    They are computed on the CPU if this machine lacks the bundle's provider.
    """
    model = _opened(output, provider)
    outputs = model.units(*task.requests(split))
    chosen = task.choose(outputs, split)
    write_json(output / "config.json", model.config | chosen.chosen())
    return chosen


def write_samples(output: Path, task: Task, split: Split, provider: str) -> None:
    """Write a sample request of a few rows, word for word, and this bundle's answer to it.

    The answer is computed on the CPU if this machine lacks the bundle's provider.
    """
    texts, pairs = (None if rows is None else list(rows[:SAMPLES]) for rows in task.requests(split))
    model = _opened(output, provider)
    answers = task.answers(model.units(texts or [], pairs))
    given = [task.given(text) for text in texts or []]
    (output / "samples").mkdir()
    write_json(output / "samples/request.json", {"texts": given, "pairs": pairs})
    # Rounded last, as predict.py does: two labels may be equal in six decimals.
    named = [_rounded(answer._asdict()) for answer in task.reply(given, answers)]
    write_json(output / "samples/response.json", {"predictions": named})


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
    packages = shlex.join(providers.packages(facts["provider"]))
    card = templates.get_template("model_card.md.j2").render(facts, packages=packages)
    (output / "README.md").write_text(card, encoding="utf-8")


def write_program(output: Path, task: str, provider: str) -> None:
    """Copy predict.py, and the files of its session and its task, as they are.

    ``task``: the name of one of ``TASKS``; see ``answering_task``.
    """
    shutil.copyfile(HERE / "predict.py", output / PROGRAM)
    session = SESSIONS.get(provider, "session_onnxruntime.py")
    shutil.copyfile(HERE / session, output / SESSION)
    shutil.copyfile(HERE / TASKS[task], output / TASK)


def roles(output: Path, *, samples: bool) -> dict[str, str]:
    """Return path -> role of every file that this bundle has."""
    left_out = set() if (output / saving.WEIGHTS).exists() else {saving.WEIGHTS}
    return {
        name: role
        for name, role in ROLES.items()
        if name not in left_out and (samples or role != "sample")
    }


def write_sums(output: Path) -> None:
    """Write SHA256SUMS over every file, in the format that ``sha256sum -c`` reads."""
    paths = sorted(path for path in output.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{file_sha256(path)}  {path.relative_to(output).as_posix()}\n" for path in paths]
    (output / SUMS).write_text("".join(lines))


def answering_task(task: Task) -> str:
    """Return the name of the task whose file answers for one: itself, or the nearest base of it.

    A task of another package that has no base among ours answers like text-classification.
    """
    for base in type(task).__mro__:
        name = str(vars(base).get("name"))
        if name in TASKS:
            return name
    return PLAIN


def hub_tag(task: str, pairs: bool) -> str:
    """Return the Hub's ``pipeline_tag`` of a task; a regression on ``pairs`` ranks texts."""
    if task == "regression" and pairs:
        return "text-ranking"
    return HUB_TAGS.get(task, "text-classification")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; equal values give equal bytes."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Return a value of JSON with its numbers in six decimals, as predict.py prints them."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(np.round(value, 6)) if isinstance(value, float) else value


def _opened(output: Path, provider: str) -> BundleModel:
    try:
        check_available(provider)
    except ProviderError:
        provider = "cpu"
    return BundleModel(output, provider=provider)


def _signature(graph: ir.Model, task: Task, split: Split) -> dict[str, Any]:
    def tensor(name: str | None, kind: str, shape: Sequence[str | int]) -> dict[str, Any]:
        return {"name": name, "dtype": kind, "shape": list(shape)}

    axes = ("batch", "sequence")
    output = graph.graph.outputs[0]
    assert output.shape is not None
    shape = [size if isinstance(size, int) else str(size.value) for size in output.shape]
    return {
        "schema": "rarefy.signature/1",
        "task": task.name,
        "inputs": [tensor(value.name, "int64", axes) for value in graph.graph.inputs],
        "outputs": [tensor(output.name, "float32", shape)],
        "max_length": task.max_length,
        "pairs": task.requests(split)[1] is not None,
        **({"words": True} if task.of_words else {}),
        **({"windows": True} if task.windows else {}),
    }
