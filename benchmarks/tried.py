"""Other forms of the deployed graph that were tried, each timed beside the one that ships.

    python -m benchmarks.tried [--checkpoint DIR]      about 6 minutes; needs a quiet machine and
                                                       `make demo`

The checkpoint (by default the demo's teacher, 6×384) is exported in int8, and its graph rewritten:
other operators for attention, GELU and products, and the runtime's default level with and without
what the pass ``residual`` does. ``no branch`` never has a mask: what one branch around the whole
model could reach at most. ``MatMulNBits`` has random weights in blocks of 128. ``positions cut
out`` and ``one table`` read the small tables of embeddings in other ways. ``saved optimized`` is
the graph as the runtime writes it, for the time to load. ``huge pages`` is the same graph in a
process whose allocator asks for them.
Forms take turns in fresh processes, in a new order in each round; a ratio is of two processes of
one round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array, to_array

from benchmarks import planned
from benchmarks.record import Claim, finish, is_at_least, is_at_most, worst
from rarefy.exporters.build import build
from rarefy.pipeline.measure.memory import cold_start

LENGTHS = (8, 32, 128)
ROUNDS = 11
BLOCK = 128
SHIPS, HUGE, SAVED, BOUND = "ships", "huge pages", "saved optimized", "no branch"
LOWEST = float(np.finfo(np.float32).min)

WORKER = """
import json, statistics, sys, time
import numpy as np, onnxruntime
path, level, lengths = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
before = time.perf_counter_ns()
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
times_ms = {"load": (time.perf_counter_ns() - before) / 1e6}
names = [value.name for value in session.get_inputs()]
for length in lengths:
    feed = {name: np.zeros((1, length), np.int64) for name in names}
    feed["attention_mask"][:] = 1
    feed["input_ids"][:] = np.random.default_rng(length).integers(1000, 20000, length)
    times = []
    for at in range(30 + 120):
        before = time.perf_counter_ns()
        session.run(None, feed)
        if at >= 30:
            times.append((time.perf_counter_ns() - before) / 1e6)
    times_ms[length] = statistics.median(times)
print(json.dumps(times_ms))
"""


def gelu(domain: str, op: str, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    """Return a rewrite that gives every GELU this operator."""

    def rewrite(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "Gelu":
                node.domain, node.op_type = domain, op
                del node.attribute[:]
                node.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())

    return rewrite


def of_onnx_runtime(masked: bool) -> Callable[[onnx.ModelProto], None]:
    """Return a rewrite that makes every attention ONNX Runtime's ``MultiHeadAttention``."""

    def rewrite(model: onnx.ModelProto) -> None:
        cast = helper.make_node("Cast", ["attention_mask"], ["mask32"], to=TensorProto.INT32)
        nodes = [cast]
        for node in list(model.graph.node):
            if node.op_type == "If":
                attend = branch(node, "then_branch")[-1]
                (heads,) = (part.i for part in attend.attribute if part.name == "q_num_heads")
                node = helper.make_node(
                    "MultiHeadAttention",
                    [*attend.input, *(["", "mask32"] if masked else [])],
                    node.output,
                    domain="com.microsoft",
                    num_heads=heads,
                    scale=1.0,
                    mask_filter_value=LOWEST,
                )
            nodes.append(node)
        replace(model, nodes)

    return rewrite


def never_masked(model: onnx.ModelProto) -> None:
    """Take the branch without a mask at every call, and leave out what asks for it."""
    nodes = list[onnx.NodeProto]()
    for node in list(model.graph.node):
        steps = branch(node, "then_branch") if node.op_type == "If" else [node]
        if node.op_type == "If":
            steps[-1].output[0] = node.output[0]
        nodes += steps
    replace(model, nodes)


def in_blocks(bits: int) -> Callable[[onnx.ModelProto], None]:
    """Return a rewrite that makes every product one of weights in blocks of ``BLOCK`` inputs."""

    def rewrite(model: onnx.ModelProto) -> None:
        shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
        floats = {}
        for node in model.graph.node:
            if node.op_type == "DynamicQuantizeLinear":
                floats |= dict.fromkeys(node.output, node.input[0])
        random = np.random.default_rng(0)
        nodes = list[onnx.NodeProto]()
        for node in list(model.graph.node):
            if node.op_type == "DynamicQuantizeLinear":
                continue
            if node.op_type == "MatMulIntegerToFloat":
                inputs, outputs = shapes[node.input[1]]
                blocks = inputs // BLOCK
                shape = (outputs, blocks, BLOCK * bits // 8)
                weight = random.integers(0, 256, shape).astype(np.uint8)
                scales = np.full(outputs * blocks, 1e-3, np.float32)
                names = [f"{node.output[0]}.{part}" for part in ("blocks", "scales")]
                model.graph.initializer.extend(map(from_array, (weight, scales), names))
                node = helper.make_node(
                    "MatMulNBits",
                    [floats[node.input[0]], *names, "", "", *node.input[6:7]],
                    node.output,
                    domain="com.microsoft",
                    K=inputs,
                    N=outputs,
                    bits=bits,
                    block_size=BLOCK,
                    accuracy_level=4,
                )
            nodes.append(node)
        replace(model, nodes)

    return rewrite


def always_masked(model: onnx.ModelProto) -> None:
    """Take the branch with a mask at every call."""
    nodes = list[onnx.NodeProto]()
    for node in list(model.graph.node):
        steps = branch(node, "else_branch") if node.op_type == "If" else [node]
        if node.op_type == "If":
            steps[-1].output[0] = node.output[0]
        nodes += steps
    replace(model, nodes)


def added(model: onnx.ModelProto) -> None:
    """Write the sums before normalizations as ``Add``, of two values each."""
    nodes = list[onnx.NodeProto]()
    for node in model.graph.node:
        if node.op_type != "Sum":
            nodes.append(node)
            continue
        total, *others = node.input
        for at, other in enumerate(others):
            last = at == len(others) - 1
            name = node.output[0] if last else f"{node.output[0]}.{at}"
            nodes.append(onnx.helper.make_node("Add", [total, other], [name]))
            total = name
    replace(model, nodes)


def cut_positions(model: onnx.ModelProto) -> None:
    """Cut the positions' rows out of their table at once, where a gather takes them one by one."""
    _, places, lookup = by_position(model)
    model.graph.initializer.append(from_array(np.array([0]), "rows"))
    whole = lookup.input[0]
    lookup.CopyFrom(helper.make_node("Slice", [whole, *places.input[1:3], "rows"], lookup.output))
    replace(model, [node for node in model.graph.node if node.output != places.output])


def one_table(model: onnx.ModelProto) -> None:
    """Look up token types and positions together, in a table of all their sums."""
    types, places, lookup = by_position(model)
    tensors = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    parts = [tensors[name] for name in tensors if "position_embeddings.weight" in name]
    positions = np.prod(np.broadcast_arrays(*parts), axis=0).astype(np.float32)
    sums = (tensors[types.input[0]][:, None] + positions).reshape(-1, positions.shape[1])
    for name, value in (("sums", sums), ("longest", np.array(len(positions)))):
        model.graph.initializer.append(from_array(value, name))
    nodes = list[onnx.NodeProto]()
    for node in model.graph.node:
        if node.output == types.output:
            continue
        if node.output == lookup.output:
            nodes.append(helper.make_node("Mul", [types.input[1], "longest"], ["block"]))
            nodes.append(helper.make_node("Add", ["block", places.output[0]], ["place"]))
            node = helper.make_node("Gather", ["sums", "place"], lookup.output, axis=0)
        elif types.output[0] in node.input:
            node.input.remove(types.output[0])
        nodes.append(node)
    replace(model, nodes)


def by_position(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the lookup of token types, the positions of a row, and their lookup."""
    (types,) = (node for node in model.graph.node if "token_type_ids" in node.input[1:])
    (places,) = (node for node in model.graph.node if "position_ids" in "".join(node.input[:1]))
    (lookup,) = (node for node in model.graph.node if places.output[0] in node.input)
    return [types, places, lookup]


def branch(node: onnx.NodeProto, name: str) -> list[onnx.NodeProto]:
    (graph,) = (part.g for part in node.attribute if part.name == name)
    return list(graph.node)


def replace(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)


BASIC, ALL = "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"
FORMS: dict[str, tuple[Callable[[onnx.ModelProto], None] | None, str]] = {
    SHIPS: (None, BASIC),
    HUGE: (None, BASIC),
    "a mask at every call": (always_masked, BASIC),
    "positions cut out": (cut_positions, BASIC),
    "one table": (one_table, BASIC),
    "no branch": (never_masked, BASIC),
    "MultiHeadAttention, masked": (of_onnx_runtime(masked=True), BASIC),
    "MultiHeadAttention": (of_onnx_runtime(masked=False), BASIC),
    "Gelu by tanh": (gelu("", "Gelu", approximate="tanh"), BASIC),
    "FastGelu": (gelu("com.microsoft", "FastGelu"), BASIC),
    "QuickGelu": (gelu("com.microsoft", "QuickGelu", alpha=1.702), BASIC),
    "MatMulNBits of 8 bits": (in_blocks(8), BASIC),
    "MatMulNBits of 4 bits": (in_blocks(4), BASIC),
    SAVED: (None, "ORT_DISABLE_ALL"),
    "level all": (None, ALL),
    "level all, with Add": (added, ALL),
}
"""Form -> how the graph is rewritten, and the runtime's level."""


def optimize(path: Path, output: Path) -> None:
    """Write a graph as the runtime makes it at the level of bundles."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath, options.log_severity_level = str(output), 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def timed(path: Path, form: str) -> dict[str, float]:
    """Return the time to load, and the median of a call by tokens, in a fresh process, in ms."""
    variables = {}
    if form == HUGE:
        variables["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    process = subprocess.run(
        [sys.executable, "-c", WORKER, str(path), FORMS[form][1], json.dumps(LENGTHS)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    times: dict[str, float] = json.loads(process.stdout)
    return times


def main() -> int:
    """Export, rewrite, time in turn and record."""
    source = planned.source(__doc__)
    task, split = planned.rows(source)
    with tempfile.TemporaryDirectory(prefix="rarefy-tried-") as name:
        folder = Path(name)
        (folder / "bundle").mkdir()
        int8 = planned.int8(source, folder / "planned")
        build(int8, folder / "bundle", task=task, split=split, form="deploy")
        paths = {}
        ships = folder / "bundle" / "model.onnx"
        for number, (form, (rewrite, _)) in enumerate(FORMS.items()):
            paths[form] = folder / f"{number}.onnx"
            if form == SAVED:
                optimize(ships, paths[form])
                continue
            model = onnx.load(ships)
            if rewrite is not None:
                rewrite(model)
            onnx.save(model, paths[form])
        order = np.random.default_rng(0)
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
            forms = order.permutation(list(FORMS)).tolist()
            rounds.append({form: timed(paths[form], form) for form in forms})
    rows = []
    for form in FORMS:
        row: dict[str, Any] = {"form": form}
        for key in ("load", *map(str, LENGTHS)):
            row[f"ms at {key}"] = statistics.median(times[form][key] for times in rounds)
            row[key] = sorted(times[form][key] / times[SHIPS][key] for times in rounds)
        rows.append(row)
        print(form, {length: round(row[str(length)][ROUNDS // 2], 3) for length in LENGTHS})
    return finish("tried", rows, [claim(row) for row in rows[1:]], seed=0)


def claim(row: dict[str, Any]) -> Claim:
    """Claim that no other form is faster, but for those that say what could be gained at most."""
    form = row["form"]
    keys = [str(length) for length in LENGTHS]
    measure = "time"
    if form == SAVED:
        keys = ["load"]
        measure = "time to load"
    intervals = [cold_start.median(row[key]) for key in keys]  # of rounds, which are independent
    ratios = []
    for key, interval in zip(keys, intervals, strict=True):
        ratios.append(f"{key}: {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    if form == HUGE:
        target = "below 1 at every length"
        outcomes = [is_at_most(interval, 1.0) for interval in intervals]
    else:
        least = {SAVED: 0.75, BOUND: 0.95}.get(form, 0.98)
        target = f"above {least} everywhere"
        outcomes = [is_at_least(interval, least) for interval in intervals]
    title = f"{form}: {measure} as a ratio to what ships, by tokens"
    return Claim(title, target, ", ".join(ratios), worst(outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
