"""Tiny real bundles for measurement tests: an embedding, layers that do real work, a head."""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = [f"w{i}" for i in range(50)]
WIDTH = 64


def make(directory, layers=2, head=1.0, pairs=False, together=1, **options):
    """Write a bundle whose work grows with ``layers``; ``head`` scales the logits (NaN: NaN).

    ``together``: the rows of a call, or the name of their number. ``options``: of the session, such
    as ``providers``.
    """
    directory.mkdir(parents=True)
    save(_model(layers, head, together), directory / "model.onnx")
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["[UNK]", *WORDS])}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    files = {
        "config.json": {"id2label": {"0": "no", "1": "yes"}},
        "signature.json": {
            "task": "text-classification",
            "inputs": [{"name": "input_ids"}],
            "outputs": [{"name": "logits"}],
            "max_length": 128,
            "pairs": pairs,
        },
        "session_options.json": {"graph_optimization_level": "all"} | options,
        "tokenizer_config.json": {"pad_token": "[UNK]"},
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    return directory


def texts(rows=30, seed=0):
    """Rows of 4 to 40 words."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(4, 41))) for _ in range(rows)]


def _model(layers, head, together):
    generator = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array(
            (generator.standard_normal(shape) / 8).astype(np.float32), name
        )

    weights = [weight("embedding", len(WORDS) + 1, WIDTH), weight("classifier", WIDTH, 2)]
    weights.append(numpy_helper.from_array(np.float32(head), "head"))
    weights.append(numpy_helper.from_array(np.array([1]), "axis"))
    nodes = [helper.make_node("Gather", ["embedding", "input_ids"], ["x0"])]
    for layer in range(layers):
        weights.append(weight(f"w{layer}", WIDTH, WIDTH))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"y{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"y{layer}"], [f"x{layer + 1}"]))
    nodes += [
        helper.make_node("ReduceMean", [f"x{layers}", "axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "classifier"], ["raw"]),
        helper.make_node("Mul", ["raw", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [together, "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [together, 2])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
