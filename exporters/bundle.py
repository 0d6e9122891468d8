"""The files of a bundle besides the graph, with which it runs on another machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from exporters import fusion
from pipeline.model.runtime import MODEL, PROVIDERS, BundleModel
from pipeline.stage.data import Split
from pipeline.terms.digests import file_sha256

SUMS = "SHA256SUMS"
SAMPLES = 3
ROLES = {
    MODEL: "graph",
    "config.json": "config",
    "tokenizer.json": "tokenizer",
    "tokenizer_config.json": "tokenizer",
    "signature.json": "signature",
    "session_options.json": "session",
    "samples/request.json": "sample",
    "samples/response.json": "sample",
    "README.md": "card",
    "predict.py": "runner",
    SUMS: "checksums",
}
"""Every file of a bundle and its role in the manifest; ``samples/`` only if the recipe wants it."""


def write_model(
    graph: ir.Model,
    output: Path,
    *,
    model: Any,
    tokenizer: Any,
    provider: str,
    threads: int,
    max_length: int,
) -> None:
    """Write the graph, the tokenizer, the labels, the signature and the session options."""
    ir.save(graph, output / MODEL)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(output / "tokenizer.json"))
    write_json(
        output / "tokenizer_config.json",
        {
            "tokenizer_class": type(tokenizer).__name__,
            "model_max_length": max_length,
            "model_input_names": tokenizer.model_input_names,
            **{key: str(token) for key, token in tokenizer.special_tokens_map.items()},
        },
    )
    config = model.config
    names = {str(index): str(config.id2label[index]) for index in sorted(config.id2label)}
    labels = {label: int(index) for index, label in names.items()}
    write_json(
        output / "config.json",
        {"model_type": config.model_type, "id2label": names, "label2id": labels},
    )
    write_json(output / "signature.json", _signature(graph, len(names), max_length))
    write_json(
        output / "session_options.json",
        {
            "schema": "rarefy.session/1",
            "providers": [PROVIDERS[provider]],
            "intra_op_num_threads": threads,
            "execution_mode": "sequential",
            "graph_optimization_level": fusion.LEVEL[provider],
        },
    )


def write_samples(output: Path, split: Split, provider: str) -> None:
    """Write a sample request of a few rows, word for word, and this bundle's answer to it.

    The answer is computed on the CPU if this machine lacks the bundle's provider.
    """
    import onnxruntime

    available = PROVIDERS[provider] in onnxruntime.get_available_providers()
    texts = split.texts[:SAMPLES]
    pairs = split.pairs[:SAMPLES] if split.pairs is not None else None
    model = BundleModel(output, provider=provider if available else "cpu")
    answers = []
    for shares in model.probabilities(texts, pairs).round(6).tolist():
        named = dict(zip(model.labels, shares, strict=True))
        answers.append(
            {"label": max(named, key=lambda label: named[label]), "probabilities": named}
        )
    (output / "samples").mkdir()
    write_json(output / "samples/request.json", {"texts": texts, "pairs": pairs})
    write_json(output / "samples/response.json", {"predictions": answers})


def write_card(output: Path, facts: dict[str, Any]) -> None:
    """Write README.md from the template ``model_card.md.j2``, and predict.py."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # The card is Markdown, in which HTML escapes would be visible.
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
        keep_trailing_newline=True,
    )
    card = templates.get_template("model_card.md.j2").render(facts)
    (output / "README.md").write_text(card, encoding="utf-8")
    shutil.copyfile(runner_path(), output / "predict.py")


def write_sums(output: Path) -> None:
    """Write SHA256SUMS over every file, in the format that ``sha256sum -c`` reads."""
    paths = sorted(path for path in output.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{file_sha256(path)}  {path.relative_to(output).as_posix()}\n" for path in paths]
    (output / SUMS).write_text("".join(lines))


def runner_path() -> Path:
    """Return the path of the stand-alone runner, which bundles contain as predict.py."""
    return Path(__file__).with_name("runner.py")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; equal values give equal bytes."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _signature(graph: ir.Model, labels: int, max_length: int) -> dict[str, Any]:
    def tensor(name: str | None, kind: str, shape: Sequence[str | int]) -> dict[str, Any]:
        return {"name": name, "dtype": kind, "shape": list(shape)}

    axes = ("batch", "sequence")
    return {
        "schema": "rarefy.signature/1",
        "task": "text-classification",
        "inputs": [tensor(value.name, "int64", axes) for value in graph.graph.inputs],
        "outputs": [tensor("logits", "float32", ("batch", labels))],
        "max_length": max_length,
    }
