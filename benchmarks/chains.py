"""Whether one integer product that feeds the next would be faster than what ships.

    python -m benchmarks.chains      about 1 minute; needs a quiet machine

The feed-forward layers of a student with ReLUs and static ranges, six of them with random weights.
As they ship, ``MatMulIntegerToFloat`` gives floats, which ``QuantizeLinear`` cuts below zero and
rounds for the next product. In a chain, ``QGemm`` gives the rounded numbers itself, so that no
float is written in between. One thread; the forms take turns, in a new order in each round.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

from benchmarks.record import Claim, finish
from rarefy.pipeline.measure.statistics import intervals

LAYERS, ROUNDS, LEAD = 6, 300, 20
SIZES = {"6×384": (384, 1536), "6×384, pruned": (384, 460), "12×768": (768, 3072)}
TOKENS = (8, 32, 128)


def session(hidden: int, neurons: int, *, chained: bool) -> Any:
    """Return a session of six feed-forward layers: rows × ``hidden`` floats in and out."""
    draw, nodes, held = np.random.default_rng(0), list[Any](), list[Any]()

    def constant(name: str, values: Any) -> str:
        held.append(from_array(np.asarray(values), name))
        return name

    def node(op: str, inputs: list[str], output: str) -> str:
        domain = "" if op == "QuantizeLinear" else "com.microsoft"
        nodes.append(helper.make_node(op, inputs, [output], domain=domain))
        return output

    step, zero = constant("step", np.float32(0.02)), constant("zero", np.uint8(0))
    middle = constant("middle", np.uint8(128))
    state = "x"
    for at in range(LAYERS):
        up, down = (
            [
                constant(f"{name}{at}", draw.integers(-60, 60, (rows, columns)).astype(np.int8)),
                constant(f"{name}{at}.scale", np.full(columns, 1e-3, np.float32)),
                constant(f"{name}{at}.bias", draw.normal(size=columns).astype(np.float32)),
            ]
            for name, rows, columns in (("up", hidden, neurons), ("down", neurons, hidden))
        )
        given = node("QuantizeLinear", [state, step, middle], f"given{at}")
        if chained:
            sums = constant(f"sums{at}", draw.integers(-999, 999, neurons).astype(np.int32))
            nones = constant(f"nones{at}", np.zeros(neurons, np.int8))
            inputs = [given, step, middle, *up[:2], nones, sums, step, zero]
            rounded = node("QGemm", inputs, f"rounded{at}")
        else:
            inputs = [given, up[0], step, up[1], middle, "", up[2]]
            floats = node("MatMulIntegerToFloat", inputs, f"floats{at}")
            rounded = node("QuantizeLinear", [floats, step, zero], f"rounded{at}")
        inputs = [rounded, down[0], step, down[1], zero, "", down[2]]
        state = node("MatMulIntegerToFloat", inputs, f"state{at}")
    used = {name for each in nodes for name in each.input}
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", hidden])
        for name in ("x", state)
    ]
    constants = [each for each in held if each.name in used]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    sets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def row(name: str, tokens: int) -> dict[str, Any]:
    """Time both forms of one size for texts of a length."""
    draw = np.random.default_rng(tokens)
    forms = {form: session(*SIZES[name], chained=form == "chain") for form in ("ships", "chain")}
    values = {"x": draw.normal(size=(tokens, SIZES[name][0])).astype(np.float32)}
    times: dict[str, list[float]] = {form: [] for form in forms}
    for at in range(LEAD + ROUNDS):
        for form in draw.permutation(list(forms)):
            before = time.perf_counter_ns()
            forms[form].run(None, values)
            if at >= LEAD:
                times[form].append((time.perf_counter_ns() - before) / 1e6)
    ratio = intervals.percentile_ratio([times["chain"]], [times["ships"]], 50)
    ms = float(np.median(times["ships"]))
    return {"size": name, "tokens": tokens, "ms": ms, "ratio": ratio._asdict()}


def main() -> int:
    """Time, and write the record."""
    rows = [row(name, tokens) for name in SIZES for tokens in TOKENS]
    claims = [
        Claim(
            f"{each['size']}, {each['tokens']} tokens: a chain is no faster, so it is left out",
            "at least 0.98 of the time",
            f"{each['ratio']['value']:.3f} [{each['ratio']['low']:.3f}, {each['ratio']['high']:.3f}"
            f"] of {each['ms']:.3f} ms",
            each["ratio"]["value"] >= 0.98,
        )
        for each in rows
    ]
    return finish("chains", rows, claims, seed=0)


if __name__ == "__main__":
    sys.exit(main())
