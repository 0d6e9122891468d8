"""Bundles: damaged ones that a digest names, and foreign ones that nothing names."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.attacks import ANY, REFUSED, Attack, Change, shapes

BUNDLE = "home/runs/tiny/bundle"
LOOSE = "loose"
"""A copy of the bundle without its manifest, as others may send one."""
FILES = ("config.json", "signature.json", "session_options.json", "tokenizer.json")
PREDICT = ("predict", LOOSE, "fine warm")


def attacks(template: Path) -> Iterator[Attack]:
    """Yield the attacks; ``template``: the project that they will change copies of."""
    yield from _named(template)
    yield from _foreign(template)
    yield from _graphs()


def _named(template: Path) -> Iterator[Attack]:
    """A bundle whose manifest is beside it: any other byte is damage."""
    files = [path for path in (template / BUNDLE).rglob("*") if path.is_file()]
    draw = random.Random(0)
    loadtest = ("loadtest", "tiny", "--rate", "5", "--seconds", "1", "--json")
    commands = (
        ("predict", "tiny", "fine"),
        loadtest,
        ("compare", "tiny", "production", "--seconds", "1"),
        ("validate", "tiny"),
        ("promote", "tiny", "next"),
        ("bundle", "tiny", "out", "--for", "hub"),
        ("bundle", "tiny", "out", "--for", "triton"),
    )
    for path in sorted(files):
        name = path.relative_to(template / BUNDLE).as_posix()
        if name == "run.json":
            continue
        size = path.stat().st_size
        for command in draw.sample(commands, 3):
            change = shapes.flip(f"{BUNDLE}/{name}", draw.randrange(size))
            codes = (2, 4, 6) if name == "manifest.json" else (6,)
            if command[0] == "promote":  # it moves to the store's own bundle, which is whole
                codes = (0, *codes)
            yield Attack(f"{name}: another byte: {command[0]} {command[1]}", change, command, codes)
    for name, change in shapes.texts(f"{BUNDLE}/manifest.json"):
        for command in (("predict", "tiny", "fine"), loadtest):
            yield Attack(f"{name}: {command[0]}", change, command, (6,))
    for name, change in shapes.texts(f"{BUNDLE}/run.json"):
        yield Attack(name, change, ("predict", "tiny", "fine"), (0,))


def _foreign(template: Path) -> Iterator[Attack]:
    for name in FILES:
        path = f"{LOOSE}/{name}"
        for title, change in shapes.texts(path):
            yield Attack(title, _loose(change), PREDICT, REFUSED)
        for title, change in shapes.values(path, template / BUNDLE / name, 20):
            yield Attack(title, _loose(change), PREDICT, ANY)
        for title, change in shapes.values(path, template / BUNDLE / name, 4, 1):
            command = ("bundle", LOOSE, "out", "--for", "hub")
            yield Attack(f"{title}: written for the Hub", _loose(change), command, ANY)
        for kind, inner in (
            ("a pipe", shapes.to_pipe(path)),
            ("a folder", _folder(path)),
            ("missing", _no(path)),
        ):
            yield Attack(f"{name} is {kind}", _loose(inner), PREDICT, REFUSED)
    for title, change in shapes.texts(f"{LOOSE}/tokenizer_config.json"):
        yield Attack(title, _loose(change), PREDICT, ANY)
    labels = {"0": "\x1b]0;owned\x07\x1b[31myes", "1": "::error::no\r\n| a |\n<script>"}
    change = _loose(_labels(labels))
    yield Attack("labels with controls", change, PREDICT, (0,))
    yield Attack("labels with controls: JSON", change, (*PREDICT, "--json"), (0,))
    yield Attack(
        "labels with controls: the Hub", change, ("bundle", LOOSE, "out", "--for", "hub"), ANY
    )
    many = {str(at): f"l{at}" for at in range(1_000_000)}
    yield Attack("a million labels", _loose(_labels(many)), PREDICT, REFUSED)


def _graphs() -> Iterator[Attack]:
    """Graphs that are damaged, endless, or read what they must not."""
    kinds = {
        "gives 10^9 logits": _huge(500_000_000),
        "gives 10^6 logits": _huge(500_000),
        "gives none": _huge(0),
        "reads outside": _external("../../../../etc/passwd"),
        "reads the terminal": _external("/dev/stdin"),
        "has an unknown operator": _operator("Evil"),
        "is nothing": shapes.writing(f"{LOOSE}/model.onnx", b""),
        "is zeros": shapes.writing(f"{LOOSE}/model.onnx", b"\0" * 1000),
        "is text": shapes.writing(f"{LOOSE}/model.onnx", b"location" * 1000),
    }
    for name, change in kinds.items():
        for command in (
            PREDICT,
            ("compare", LOOSE, "production", "--data", "eval.jsonl", "--seconds", "1"),
        ):
            codes = (0, 2, 3, 4, 5, 6) if "10^6" in name else REFUSED
            yield Attack(f"the graph {name}: {command[0]}", _loose(change), command, codes)
    for seed in range(20):
        change = _loose(_noise(seed))
        yield Attack(f"the graph has other bytes, {seed}", change, PREDICT, ANY)


def _loose(change: Change) -> Change:
    def both(project: Path) -> None:
        shutil.copytree(project / BUNDLE, project / LOOSE)
        for name in ("manifest.json", "run.json"):
            (project / LOOSE / name).unlink(missing_ok=True)
        change(project)

    return both


def _labels(names: dict[str, str]) -> Change:
    def change(project: Path) -> None:
        path = project / LOOSE / "config.json"
        values = json.loads(path.read_text())
        values["id2label"] = names
        values["label2id"] = {name: int(at) for at, name in names.items()}
        path.write_text(json.dumps(values))

    return change


def _noise(seed: int) -> Change:
    def change(project: Path) -> None:
        path = project / LOOSE / "model.onnx"
        content = bytearray(path.read_bytes())
        draw = random.Random(seed)
        for _ in range(4):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(bytes(content[: draw.choice((len(content), len(content) * 2 // 3))]))

    return change


def _folder(path: str) -> Change:
    def change(project: Path) -> None:
        (project / path).unlink()
        (project / path).mkdir()

    return change


def _no(path: str) -> Change:
    def change(project: Path) -> None:
        (project / path).unlink()

    return change


def _graph(project: Path, nodes: list[Any], initializers: list[Any]) -> None:
    """Write a graph with the bundle's inputs and its output, made of other nodes."""
    import onnx
    from onnx import TensorProto, helper

    signature = json.loads((project / LOOSE / "signature.json").read_text())
    inputs = []
    for entry in signature["inputs"]:
        inputs.append(helper.make_tensor_value_info(entry["name"], TensorProto.INT64, ["b", "t"]))
    name = signature["outputs"][0]["name"]
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "evil", inputs, [output], initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, project / LOOSE / "model.onnx")


def _output(project: Path) -> str:
    signature = json.loads((project / LOOSE / "signature.json").read_text())
    return str(signature["outputs"][0]["name"])


def _huge(width: int) -> Change:
    def change(project: Path) -> None:
        from onnx import TensorProto, helper

        shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, 2 * width])
        node = helper.make_node("ConstantOfShape", ["shape"], [_output(project)])
        _graph(project, [node], [shape])

    return change


def _external(location: str) -> Change:
    def change(project: Path) -> None:
        from onnx import TensorProto, helper

        tensor = helper.make_tensor("weights", TensorProto.FLOAT, [1, 2], [1.0, 2.0])
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        node = helper.make_node("Identity", ["weights"], [_output(project)])
        _graph(project, [node], [tensor])

    return change


def _operator(name: str) -> Change:
    def change(project: Path) -> None:
        from onnx import TensorProto, helper

        tensor = helper.make_tensor("weights", TensorProto.FLOAT, [1, 2], [1.0, 2.0])
        _graph(project, [helper.make_node(name, ["weights"], [_output(project)])], [tensor])

    return change
