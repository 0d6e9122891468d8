"""How near an int8 bundle comes to its roofline, node by node.

    python -m benchmarks.floor [--checkpoint DIR]      about 5 minutes; needs a quiet machine and
                                                       `make demo`

The floor is the larger of two times (Williams, Waterman and Patterson 2009, "Roofline"): all
multiply-adds of the whole model (all layers, all tokens) at the best rate that a bare integer
product reaches on this core, and one reading of all int8 weights at the rate at which the core
reads as many bytes again and again. The weights of the shapes are random, with the checkpoint's
tokenizer: times do not depend on them. One thread, batch 1, no padding.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper

from benchmarks import planned
from benchmarks.record import Claim, finish
from rarefy.exporters.build import build
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.runtime.bundle_model import BundleModel

SHAPES = {"2×384": (2, 384), "6×384": (6, 384), "12×768": (12, 768)}
LENGTHS = (8, 16, 32, 128)
PRODUCTS = ((384, 384), (384, 1536), (1536, 384), (768, 768), (768, 3072), (3072, 768))
"""Inputs × outputs of the products in these models."""
GOAL, LEAST = 0.80, 0.72
BLOCKS, CALLS, LEAD = 12, 20, 4


def session(model: str | bytes, **options: Any) -> onnxruntime.InferenceSession:
    """Return a session on one thread, with more of the runtime's options."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def milliseconds(call: Any) -> float:
    """Return the median time of a call, over blocks whose first calls are left out."""
    times = []
    for _ in range(BLOCKS):
        for number in range(LEAD + CALLS):
            before = time.perf_counter_ns()
            call()
            if number >= LEAD:
                times.append((time.perf_counter_ns() - before) / 1e6)
    return statistics.median(times)


def rate(inputs: int, outputs: int, rows: int) -> float:
    """Return the rate of a bare integer product whose weights are in the caches, in GOP/s."""
    generator = np.random.default_rng(0)
    weight = generator.integers(-63, 64, (inputs, outputs)).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", 2, [rows, inputs])],
        [helper.make_tensor_value_info("y", 6, [rows, outputs])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    product = session(model.SerializeToString())
    binding = product.io_binding()
    binding.bind_cpu_input("x", generator.integers(0, 256, (rows, inputs)).astype(np.uint8))
    binding.bind_output("y", "cpu")
    time_ms = milliseconds(lambda: product.run_with_iobinding(binding))
    return 2e-6 * rows * inputs * outputs / time_ms


def reading_rate(size: int) -> float:
    """Return the rate at which one core reads a buffer of this many bytes repeatedly, in GB/s."""
    from threadpoolctl import threadpool_limits

    values = np.ones(size // 4, np.float32)
    with threadpool_limits(1):
        time_ms = milliseconds(lambda: values.dot(values))
    return values.nbytes / time_ms / 1e6


def bundle(source: Path, folder: Path, layers: int, hidden: int) -> Path:
    """Export a model of this shape with every layer int8; return the bundle."""
    from transformers import AutoModelForSequenceClassification

    model = checkpoint.load(source)
    config = model.config
    config.num_hidden_layers = layers
    config.num_attention_heads = 12
    config.hidden_size = hidden
    config.intermediate_size = 4 * hidden
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "float")
    checkpoint.load_tokenizer(source).save_pretrained(folder / "float")
    task, split = planned.rows(source)
    (folder / "bundle").mkdir()
    int8 = planned.int8(folder / "float", folder / "int8")
    build(int8, folder / "bundle", task=task, split=split, form="deploy")
    return folder / "bundle"


def feed_of(model: BundleModel, length: int) -> dict[str, Any]:
    """Return the inputs of one unpadded row of this many tokens."""
    feed = {name: np.zeros((1, length), np.int64) for name in model.inputs}
    feed["input_ids"] = np.random.default_rng(length).integers(1000, 20_000, (1, length))
    feed["attention_mask"] = np.ones((1, length), np.int64)
    return feed


def account(folder: Path, length: int) -> dict[str, float]:
    """Return each operator's share of the nodes' time, by the runtime's profiler.

    The profiler adds some 3 µs to every node, so these are shares and no times. A branch's nodes
    are counted, not the ``If`` around them.
    """
    feed = feed_of(BundleModel(folder), length)
    with tempfile.TemporaryDirectory(prefix="rarefy-profile-") as name:
        profiled = session(
            str(folder / "model.onnx"),
            enable_profiling=True,
            profile_file_prefix=f"{name}/profile",
            graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        )
        for _ in range(60):
            profiled.run(None, feed)
        events = json.loads(Path(profiled.end_profiling()).read_text())
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"]
    del times["If"]
    total = times.total()
    return {operator: round(time / total, 4) for operator, time in times.most_common()}


def bare_rates() -> dict[str, dict[int, float]]:
    """Return shape -> rows -> GOP/s of bare products."""
    rates = {}
    for inputs, outputs in PRODUCTS:
        rates[f"{inputs}×{outputs}"] = {rows: rate(inputs, outputs, rows) for rows in LENGTHS}
    return rates


def main() -> int:
    """Measure, print and record."""
    source = planned.source(__doc__)
    rates = bare_rates()
    peak = max(max(by_rows.values()) for by_rows in rates.values())
    rows: list[dict[str, Any]] = [{"bare_products_gops": rates, "peak_gops": peak}]
    print(f"bare products, GOP/s by rows: {json.dumps(rates)}", flush=True)
    for name, (layers, hidden) in SHAPES.items():
        with tempfile.TemporaryDirectory(prefix="rarefy-floor-") as folder:
            exported = bundle(source, Path(folder), layers, hidden)
            model = BundleModel(exported, threads=1)
            weights = layers * 12 * hidden**2  # bytes in int8, and multiply-adds a token
            reading = reading_rate(weights)
            for length in LENGTHS:
                feed = feed_of(model, length)
                time_ms = milliseconds(lambda model=model, feed=feed: model.run(feed))
                computing_ms = 2e-6 * length * weights / peak
                reading_ms = 1e-6 * weights / reading
                floor = max(computing_ms, reading_ms)
                row = {
                    "model": name,
                    "tokens": length,
                    "ms": time_ms,
                    "floor_ms": floor,
                    "computing_ms": computing_ms,
                    "reading_ms": reading_ms,
                    "share": floor / time_ms,
                    "operators": account(exported, length),
                }
                rows.append(row)
                print(json.dumps(row), flush=True)
    return finish("floor", rows, [claim(rows, name) for name in ("6×384", "12×768")], seed=0)


def claim(rows: list[dict[str, Any]], name: str) -> Claim:
    """Claim that a shape comes near the floor at 32 tokens."""
    (row,) = (row for row in rows if (row.get("model"), row.get("tokens")) == (name, 32))
    return Claim(
        f"share of the int8 floor, {name} at 32 tokens",
        f"at least {LEAST:.0%} (goal {GOAL:.0%})",
        f"{row['share']:.0%} ({row['ms']:.2f} ms, floor {row['floor_ms']:.2f})",
        row["share"] >= LEAST,
    )


if __name__ == "__main__":
    raise SystemExit(main())
