"""The files of a bundle besides the graph, with which it runs on another machine."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
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
"""The task whose lines are in runner.py itself."""
SAMPLES = 3
FIRST_LINE, LAST_LINE = "# The answer of one row", "# End of the answer."
"""What a task's own lines in the runner begin with, and what comes after them."""
ANSWER, MAIN = "def answer(", "def main("
"""What those lines have if they also tokenize, and what comes after them then."""
SESSION = "# The session, by OpenVINO.\n"
"""What OpenVINO's own lines begin with, in ``openvino_runner.py``."""
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
    "predict.py": "runner",
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
        | dict(task.settings)
        | task.presenter.bundle_settings(split),
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
    model = _opened(output, provider)
    predictions = task.head.predictions(model.units(texts, pairs))
    user_texts = [task.presenter.user_text(text) for text in texts]
    (output / "samples").mkdir()
    write_json(output / "samples/request.json", {"texts": user_texts, "pairs": pairs})
    # Rounded last, as predict.py does: two labels may be equal in six decimals.
    answers = task.presenter.postprocess(user_texts, predictions)
    named = [_rounded(answer._asdict()) for answer in answers]
    write_json(output / "samples/response.json", {"predictions": named})


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
    packages = shlex.join(providers.packages(facts["provider"]))
    card = templates.get_template("model_card.md.j2").render(facts, packages=packages)
    (output / "README.md").write_text(card, encoding="utf-8")
    code = runner(str(facts["runner"]))
    code = by_openvino(code) if facts["provider"] == "openvino" else code
    (output / "predict.py").write_text(code, encoding="utf-8")


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


def runner(task: str) -> str:
    """Return the code of a bundle's predict.py: ``runner.py`` with the task's own lines.

    Those of text-classification are in it; those of another task are in ``runners/``, with the
    modules that they import.
    """
    code = Path(__file__).with_name("runner.py").read_text(encoding="utf-8")
    own = Path(__file__).parent / "runners" / f"{task.replace('-', '_')}.py"
    if not own.is_file():
        return code
    head, _, rest = code.partition(FIRST_LINE)
    lines = own.read_text(encoding="utf-8")
    before, first, lines = lines.partition(FIRST_LINE)
    imports = re.findall(r"^import \w+\n", before, re.MULTILINE)
    plain = re.findall(r"^import \w+\n", head[: head.index("\nfrom ") + 1], re.MULTILINE)
    head = head.replace("".join(plain), "".join(sorted({*plain, *imports})))
    after = MAIN if ANSWER in lines else LAST_LINE
    return head + first + lines + "\n\n" + rest[rest.index(after) :]


def by_openvino(code: str) -> str:
    """Return the code of a predict.py with OpenVINO in the place of ONNX Runtime."""
    own = Path(__file__).with_name("openvino_runner.py").read_text(encoding="utf-8")
    lines = own.partition(SESSION)[2]
    code = code.replace("import base64\nimport contextlib\n", "")
    code = code.replace("onnxruntime,", "openvino,")
    code = code.replace("import onnxruntime\n", "import openvino\n")
    code = code.replace("from typing", "from types import SimpleNamespace\nfrom typing", 1)
    for first, after, instead in (
        ("PROBE = (", "def read(", "\n\n"),
        ("def exact(", "def load(", f"{lines}\n\n"),
        (
            '    if read("signature.json").get("isa")',
            "    tokenizer =",
            "    session = Session()\n",
        ),
    ):
        begin, end = code.index(first), code.index(after)
        code = code[:begin] + instead + code[end:]
    return code


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
        "pairs": task.encoder.requests(split)[1] is not None,
        **({"words": True} if task.encoder.of_words else {}),
        **({"windows": True} if task.windows else {}),
    }
