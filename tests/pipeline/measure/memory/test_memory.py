import subprocess
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from rarefy.pipeline.measure import machine
from rarefy.pipeline.measure.memory import memory, memory_worker
from rarefy.pipeline.terms.errors import ProviderError
from tests.pipeline.measure import bundles

MEGABYTE = 2**20


@pytest.mark.slow
def test_a_bundle_of_more_weights_takes_so_much_more_memory(tmp_path):
    """64 MiB of weights add 64 MiB to the peak, without the parent process's memory."""
    small = bundles.make(tmp_path / "small")
    large = bundles.make(tmp_path / "large")
    ballast = np.random.default_rng(0).standard_normal((64, MEGABYTE // 4)).astype(np.float32)
    _keep(large / "model.onnx", ballast)
    rows = ["w1 w2", "w3"]
    held = np.ones(40 * MEGABYTE)  # 320 MiB here must not be seen there
    less, more = memory.peak(small, rows).host, memory.peak(large, rows).host
    assert held.sum() == len(held)
    assert 0 < less < 60 * MEGABYTE
    assert 64 * MEGABYTE - 10 * MEGABYTE < more - less < 3 * 64 * MEGABYTE


def test_without_a_gpu_no_memory_of_one_is_told(tmp_path):
    peak = memory.peak(bundles.make(tmp_path / "b"), bundles.texts(2))
    assert (peak.device, peak.adapter) == (None, None)


@pytest.mark.gpu
def test_on_a_gpu_its_memory_is_told_too(tmp_path):
    found = memory.peak(bundles.make(tmp_path / "b"), bundles.texts(2), provider="cuda")
    assert found.device > MEGABYTE


def _keep(path, ballast):
    import onnx

    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    model.graph.node.append(helper.make_node("Gather", ["ballast", "input_ids"], ["kept"]))
    shape = [1, "tokens", ballast.shape[1]]
    kept = helper.make_tensor_value_info("few", TensorProto.FLOAT, shape[:2])
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "last"))
    model.graph.node.append(helper.make_node("ReduceMax", ["kept", "last"], ["few"], keepdims=0))
    model.graph.output.append(kept)
    save(model, path)


def test_the_longest_pairs_are_those_of_the_longest_two_texts(tmp_path, monkeypatch):
    asked = []

    def call(_module, request, **_named):
        asked.append(request)
        return {"peak": 1, "device": None, "adapter": None}

    monkeypatch.setattr(memory.fresh_process, "call", call)
    texts = ["short", *["not short"] * memory.ROWS]
    memory.peak(tmp_path, texts, ["a passage of many words", *["word"] * memory.ROWS])
    assert (asked[0]["texts"][0], asked[0]["pairs"][0]) == ("short", "a passage of many words")
    assert len(asked[0]["texts"]) == len(asked[0]["pairs"]) == memory.ROWS


def test_the_provider_is_asserted(tmp_path):
    with pytest.raises(ProviderError):
        memory.peak(bundles.make(tmp_path / "b"), bundles.texts(2), provider="cuda")


def test_the_size_counts_what_is_needed_to_answer(tmp_path):
    made = bundles.make(tmp_path / "b")
    size = memory.size(made)
    assert size == sum(path.stat().st_size for path in made.iterdir())
    (made / "README.md").write_text("a card")
    (made / "samples").mkdir()
    (made / "samples" / "request.json").write_text("{}")
    assert memory.size(made) == size
    (made / "model.onnx.data").write_bytes(b"x" * 1000)
    assert memory.size(made) == size + 1000


@pytest.mark.parametrize(
    ("used", "told"), [([5, 9], 4), ([9, 9], None), ([9, 5], None), ([None, 9], None)]
)
def test_memory_of_a_gpu_that_did_not_rise_was_not_measured(monkeypatch, tmp_path, used, told):
    """Another process has given back as much."""
    answers = iter(used)
    monkeypatch.setattr(memory_worker, "BundleModel", lambda *_, **__: MagicMock())
    request = {"provider": "cuda", "directory": str(tmp_path), "threads": 1}
    found = memory_worker.run(request | {"texts": ["a"], "pairs": None}, lambda: next(answers))
    assert found["device"] == told


@pytest.mark.parametrize(
    ("told", "used"),
    [("echo 120; echo 30", 150 * MEGABYTE), ("echo '[N/A]'", None), ("exit 9", None), (None, None)],
)
def test_the_drivers_word_is_taken_only_where_it_is_a_number(tmp_path, monkeypatch, told, used):
    if told is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{told}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory_worker.gpu_memory() == used


@pytest.mark.parametrize(
    ("visible", "order", "gpus", "asked"),
    [
        (None, None, ["L4"], "--id 0"),
        ("1,0", None, ["L4", "L4"], "--id 1"),
        ("1", None, ["L4", "A100"], ""),  # CUDA counts the fastest first, the driver by its place
        ("1", "PCI_BUS_ID", ["L4", "A100"], "--id 1"),
        ("GPU-3f", None, ["L4", "A100"], "--id GPU-3f"),
        ("MIG-3f", None, ["A100"], ""),
    ],
)
def test_the_device_that_is_used_is_asked_for(monkeypatch, visible, order, gpus, asked):
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "gpus", lambda: tuple(gpus))
    assert " ".join(memory_worker.device_options()) == asked


METER = """
import subprocess
import sys

from rarefy.pipeline.measure.memory.memory import PeakMeter

b"x" * (400 << 20)
meter = PeakMeter()
peaks = [meter.read()]
b"x" * (160 << 20)
peaks.append(meter.read())
subprocess.run([sys.executable, "-c", "len(b'x' * (1 << 29))"], check=True)
peaks.append(meter.read())
print(*peaks)
"""


@pytest.mark.slow
def test_a_meter_reads_the_peak_since_it_was_made_and_counts_a_larger_subprocess():
    program = [sys.executable, "-c", METER]
    output = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    first, own, whole = map(int, output.split())
    assert first < 150 * MEGABYTE
    assert 150 * MEGABYTE <= own - first <= 170 * MEGABYTE
    assert 1 << 29 <= whole < 3 << 28
