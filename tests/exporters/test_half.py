"""Half precision gives the same answers as full precision."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest

from rarefy.exporters import half
from rarefy.exporters.build import build
from rarefy.exporters.passes.evaluate import evaluate
from rarefy.exporters.passes.graph import behind, constant, node
from rarefy.pipeline.model.quantization.plan import Plan
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from tests.exporters.conftest import tiny
from tests.exporters.deployments import SPLIT, TASK, TEXTS, copy_with
from tests.exporters.families import SHORT, classifier, row
from tests.exporters.small_graphs import finish, normal, run
from tests.exporters.small_graphs import model as small


@pytest.mark.slow
def test_half_precision_answers_as_full_precision_does(rows):
    """Test only the conversion, on the CPU; fp16 is faster on GPUs only."""
    from rarefy.exporters import parity, trace
    from rarefy.exporters.passes import clean, first_token, mask, scale

    model = tiny("Bert")
    graph = trace.export(model, trace.INPUTS, TASK)
    expected = parity.cases(TASK, model, rows, trace.INPUTS, 0)
    for rewrite in (mask, scale, first_token):
        rewrite.apply(graph)
        clean.apply(graph)
    converted, _ = half.apply(graph, [case.feed for case in expected])
    assert parity.check(TASK, converted, expected, "fp16", "half").agreement >= 0.95
    kinds = {value.dtype.name for value in converted.graph.initializers.values()}
    assert "FLOAT16" in kinds


def turned() -> ir.Model:
    """Return x · cos(place · frequency / 3) / 3 + table[place // 3], where x is a token's row.

    The frequencies are copied by a size, and the factor of a third is read by all the network.
    """
    made, [ids] = small({"ids": (["batch", "sequence"], ir.DataType.INT64)})
    numbers = {
        "tokens": normal(8, 4),
        "buckets": np.arange(1400, dtype=np.float32)[:, None].repeat(4, axis=1) / 1400,
        "third": np.array(1 / 3, dtype=np.float32),
        "frequencies": np.array([[1, 0.3, 0.1, 0.03]], dtype=np.float32),
        **{str(number): np.array(number) for number in (0, 1)},
        "first": np.array([0]),
        "last": np.array([1]),
        "four": np.array([4]),
    }
    held = {name: constant(made, name, value) for name, value in numbers.items()}
    nodes: list[ir.Node] = []

    def add(op: str, *inputs: ir.Value, like: str = "third", **attributes: int) -> ir.Value:
        nodes.append(node(op, list(inputs), like=held[like], **attributes))
        return nodes[-1].outputs[0]

    x = add("Gather", held["tokens"], ids)
    size = add("Shape", x, like="0", start=1, end=2)
    places = add("Range", held["0"], add("Squeeze", size, like="0"), held["1"], like="0")
    column = add("Unsqueeze", add("Cast", places, to=1), held["last"])
    shape = add("Concat", size, held["four"], like="0", axis=0)
    thirds = add("Mul", column, held["third"])
    angles = add("Mul", thirds, add("Expand", held["frequencies"], shape))
    rotated = add("Mul", add("Mul", x, held["third"]), add("Cos", angles))
    bucket = add("Squeeze", add("Cast", thirds, like="0", to=7), held["last"], like="0")
    add("Add", rotated, add("Gather", held["buckets"], bucket))
    return finish(made, nodes)


def test_places_are_counted_in_full_precision() -> None:
    """fp16 has no odd number above 2048, and a third of 4000 to the nearest whole number."""
    ids = np.random.default_rng(0).integers(0, 8, (1, 4000))
    whole, (halved, _) = turned(), half.apply(turned(), [{"ids": ids}])
    assert np.abs(run(whole, ids=ids) - run(halved, ids=ids)).max() < 0.005
    numbers = {name: value.dtype.name for name, value in halved.graph.initializers.items()}
    assert numbers["frequencies"] == numbers["third.fp32"] == "FLOAT"
    assert numbers["tokens"] == numbers["buckets"] == numbers["third"] == "FLOAT16"


@pytest.mark.slow
def test_long_texts_get_the_answers_of_full_precision() -> None:
    """The token that the first one reads most depends on angles at places up to 4000."""
    from rarefy.exporters import parity, trace

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1}
    model = classifier("modernbert", num_hidden_layers=2, max_position_embeddings=4096, **sizes)
    attention = model.model.layers[0].attn
    for weight, factor in ((attention.Wqkv.weight, 20), (attention.Wo.weight, 2)):
        weight.data.mul_(factor)
    graph = trace.export(model, trace.INPUTS[:2], TASK)
    feed = {name: np.array([row(4000)[name]]) for name in trace.INPUTS[:2]}
    expected = [parity.Case(feed, run(graph, **feed))]
    halved, _ = half.apply(graph, [feed])
    parity.check(TASK, halved, expected, "fp16", "half")
    angles = [step.inputs[0] for step in halved.graph if step.op_type in ("Cos", "Sin")]
    assert len(angles) == 4
    read = {each for angle in angles if angle is not None for each in behind(angle)}
    assert not any(each.dtype == ir.DataType.FLOAT16 for each in read)


def looked_up(number: float) -> tuple[ir.Model, ir.Value]:
    """Return a graph that looks up rows of a table of numbers near this one, and the rows."""
    made, [ids] = small({"ids": (["batch", "sequence"], ir.DataType.INT64)})
    table = constant(made, "table", number + normal(8, 4))
    made.graph.append(node("Gather", [table, ids], like=table))
    return made, made.graph[0].outputs[0]


def all_are_finite(made: ir.Model, **feed: np.ndarray) -> bool:
    """Return whether all numbers that a graph has in fp16 are finite once they really are fp16."""
    computed = [value for step in made.graph for value in step.outputs]
    halves = [value for value in computed if value.dtype == ir.DataType.FLOAT16]
    assert halves
    [found] = evaluate(made, halves, [feed])
    return all(np.isfinite(array).all() for array in found)


IDS = np.arange(8)[None]


def test_numbers_beyond_the_range_of_fp16_stay_in_fp32() -> None:
    """A CPU would not show it: it computes both products in fp32, with no cast between them."""
    made, rows = looked_up(300)
    large = constant(made, "large", 100 * np.eye(4, dtype=np.float32) + 200)
    part = constant(made, "part", np.array(0.001, dtype=np.float32))
    product = node("MatMul", [rows, large], like=rows)
    smaller = node("Mul", [product.outputs[0], part], like=rows)
    finish(made, [product, smaller, node("Add", [smaller.outputs[0], rows], like=rows)])
    expected = run(made, ids=IDS)
    halved, kept = half.apply(made, [{"ids": IDS}])
    assert all_are_finite(halved, ids=IDS)
    np.testing.assert_allclose(run(halved, ids=IDS), expected, rtol=2e-3)
    numbers = {name: value.dtype.name for name, value in halved.graph.initializers.items()}
    assert numbers == {"table": "FLOAT16", "large": "FLOAT", "part": "FLOAT"}
    assert kept == 2


def test_answers_beyond_the_range_of_fp16_are_given() -> None:
    made, rows = looked_up(300)
    finish(made, [node("Mul", [rows, rows], like=rows)])
    expected = run(made, ids=IDS)
    assert expected.max() > 65504
    halved, _ = half.apply(made, [{"ids": IDS}])
    assert all_are_finite(halved, ids=IDS)
    assert halved.graph.outputs[0].dtype == ir.DataType.FLOAT
    np.testing.assert_allclose(run(halved, ids=IDS), expected, rtol=2e-3)


def test_masks_hide_without_infinity_and_keep_nothing_in_fp32() -> None:
    """-65504 and a score of -40 are -inf in fp16, and a row of nothing else is NaN."""
    made, scores = looked_up(-40)
    lowest = constant(made, "mask.lowest", np.array(np.finfo(np.float32).min))
    finish(made, [node("Add", [scores, lowest], like=scores)])
    halved, kept = half.apply(made, [{"ids": IDS}])
    assert all_are_finite(halved, ids=IDS)
    assert np.exp(run(halved, ids=IDS)).max() == kept == 0


@pytest.mark.slow
def test_massive_activations_of_a_decoder_stay_in_fp32() -> None:
    """The same network, with numbers inside a feed-forward layer that fp16 cannot hold."""
    from rarefy.exporters import parity, trace

    model = classifier("llama", num_hidden_layers=1)
    layer = model.model.layers[0].mlp
    layer.up_proj.weight.data.mul_(1e6)
    layer.down_proj.weight.data.div_(1e6)
    rows = [{name: each[name] for name in trace.INPUTS[:2]} for each in SHORT]
    graph = trace.export(model, trace.INPUTS[:2], TASK)
    expected = parity.cases(TASK, model, rows, trace.INPUTS[:2], 0)
    halved, kept = half.apply(graph, [case.feed for case in expected])
    parity.check(TASK, halved, expected, "fp16", "half")
    assert all_are_finite(halved, **expected[-1].feed)
    assert 0 < kept < len(list(halved.graph)) / 2


@pytest.mark.slow
@pytest.mark.parametrize(("provider", "said"), [("tensorrt", True), ("cuda", False)])
def test_it_is_said_that_tensorrt_may_compute_all_in_fp16(
    minilm, tmp_path, monkeypatch, caplog, provider, said
):
    def norms(model, _):
        return {step for step in model.graph if step.op_type == "LayerNormalization"}

    monkeypatch.setattr(half, "large_steps", norms)
    source = copy_with(minilm, Plan(precision="fp16"), tmp_path / "checkpoint")
    output = tmp_path / "bundle"
    output.mkdir()
    build(source, output, task=TASK, split=SPLIT, form="deploy", target_provider=provider)
    assert ("5 operators stay in fp32" in caplog.text) is said
    assert ("or take provider: cuda" in caplog.text) is said


@pytest.mark.gpu
def test_half_precision_runs_on_cuda(minilm, tmp_path):
    source = copy_with(minilm, Plan(precision="fp16"), tmp_path / "checkpoint")
    output = tmp_path / "bundle"
    output.mkdir()
    build(source, output, task=TASK, split=SPLIT, form="deploy", target_provider="cuda")
    answers = TASK.head.predictions(BundleModel(output, provider="cuda").units(TEXTS))
    assert np.allclose(answers.sum(axis=1), 1)


WAVES = """
import resource
import numpy as np
import onnx_ir as ir
from rarefy.exporters import half
from rarefy.exporters.passes.graph import node
from tests.exporters.small_graphs import finish, model

made, [value] = model({"x": (["rows", "columns"], ir.DataType.FLOAT)})
nodes = []
for _ in range(100):
    nodes.append(node("Sin", [value], like=value))
    value = nodes[-1].outputs[0]
finish(made, nodes)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
half.apply(made, [{"x": np.ones((1024, 1024), np.float32)}])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_rows_are_tried_without_holding_all_that_is_computed() -> None:
    """Values of 4 MiB, of which a hundred would be 400: long rows of a large model have 100 GB."""
    done = subprocess.run([sys.executable, "-c", WAVES], capture_output=True, check=True)
    assert int(done.stdout) < 100 * 1024, "KiB"
