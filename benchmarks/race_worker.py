"""Run one job of the race in a fresh process: time forms in turn, answer rows, or count rows.

Rows come as token ids, written out, so that only the models are timed. Started by
``benchmarks.race``; see ``rarefy.pipeline.measure.fresh_process``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from rarefy.pipeline.measure import fresh_process
from rarefy.pipeline.measure.latency import worker as latency_worker
from rarefy.pipeline.model.runtime.bundle_model import BundleModel

barrier: Any = None


class Contender:
    """A form of any tool: a bundle of ours, an ONNX graph, or a model of OpenVINO.

    ONNX graphs run as their tools run them, at ONNX Runtime's default optimizer level, and
    OpenVINO's models are compiled as their ``compile.json`` says.
    """

    of_words = in_windows = False
    """As of a bundle whose rows are texts, each read at once."""

    def __init__(self, directory: Path, *, provider: str = "cpu", threads: int = 1) -> None:
        self.threads = threads
        self.provider = provider
        self._feeds: dict[str, dict[str, Any]] = {}
        if (directory / "signature.json").is_file():
            options = json.loads((directory / "session_options.json").read_text())
            if options["providers"] == ["OpenVINO"]:
                self.provider = "openvino"
            model = BundleModel(directory, provider=self.provider, threads=threads)
            self.inputs = model.inputs
            self.run = model.run
        elif (directory / "model.onnx").is_file():
            self._onnx(directory / "model.onnx")
        else:
            self._openvino(directory)

    def _onnx(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = tuple(entry.name for entry in session.get_inputs())
        self.run = lambda feed: session.run(None, feed)[0]

    def _openvino(self, directory: Path) -> None:
        import openvino

        text = (directory / "compile.json").read_text()
        properties = json.loads(text) | {"INFERENCE_NUM_THREADS": self.threads}
        self.provider = "openvino"
        core = openvino.Core()
        compiled = core.compile_model(directory / "model.xml", "CPU", properties)
        self.inputs = tuple(port.get_any_name() for port in compiled.inputs)
        request = compiled.create_infer_request()
        # Nothing is copied on the way in or out: the fastest way that its Python package has.
        self.run = lambda feed: request.infer(feed, share_inputs=True, share_outputs=True)[0]

    def feed(self, rows: list[list[int]]) -> dict[str, Any]:
        """Return rows as one padded batch (0 is the padding of all these models' masks)."""
        width = max(map(len, rows))
        ids = np.zeros((len(rows), width), np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {name: feed[name] for name in self.inputs}

    def encode(self, texts: list[str], pairs: None = None) -> list[dict[str, Any]]:
        """Return one feed per row; a second call with a row costs nothing."""
        for text in texts:
            if text not in self._feeds:
                row = json.loads(text)
                self._feeds[text] = self.feed([row])
        return [self._feeds[text] for text in texts]


def fails(request: dict[str, Any]) -> dict[str, Any]:
    """Return what a form says if it cannot answer rows of each length; None if it can."""
    model = Contender(Path(request["form"]))
    for length in request["lengths"]:
        try:
            model.run(model.feed([[1] * length]))
        except Exception as error:
            lines = str(error).strip().splitlines()
            return {"fails": f"{length} tokens: {lines[0]}"}
    return {"fails": None}


def answers(request: dict[str, Any]) -> dict[str, Any]:
    """Return the logits of each row, one at a time."""
    model = Contender(Path(request["form"]))
    logits = []
    for feed in model.encode(request["texts"]):
        [of_row] = model.run(feed)
        logits.append(of_row.tolist())
    return {"logits": logits}


def rate(request: dict[str, Any]) -> dict[str, Any]:
    """Return the rows a second of some workers, each on its own cores, at the same time."""
    context = multiprocessing.get_context("spawn")
    workers = len(request["cores"])
    gate = context.Barrier(workers)
    with ProcessPoolExecutor(workers, context, initializer=_gate, initargs=(gate,)) as pool:
        rates = pool.map(_work, [request] * workers, range(workers))
        return {"rate": sum(rates)}


def _gate(gate: Any) -> None:
    global barrier
    barrier = gate


def _work(request: dict[str, Any], worker: int) -> float:
    """Return the rows a second of one worker, over whole passes of its share of the batches."""
    cores = request["cores"][worker]
    os.sched_setaffinity(0, cores)
    model = Contender(Path(request["form"]), threads=len(cores))
    rows = [json.loads(text) for text in request["texts"]]
    rows.sort(key=len)
    size = request["batch"]
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]
    random = np.random.default_rng(request["seed"])
    order = random.permutation(len(batches)).tolist()
    workers = len(request["cores"])
    share = [batches[number] for number in order[worker::workers]]
    feeds = [model.feed(batch) for batch in share]
    for feed in feeds:
        model.run(feed)
    barrier.wait()
    started = time.perf_counter()
    passes = 0
    seconds = 0.0
    while seconds < request["seconds"]:
        for feed in feeds:
            model.run(feed)
        passes += 1
        seconds = time.perf_counter() - started
    rows_of_pass = sum(map(len, share))
    return passes * rows_of_pass / seconds


def latency(request: dict[str, Any]) -> dict[str, Any]:
    """Time all forms as a run times bundles."""
    with (
        mock.patch.object(latency_worker, "BundleModel", Contender),
        # Forms of others do not say where they run.
        mock.patch.object(latency_worker.engines, "providers", dict.fromkeys),
    ):
        return latency_worker.run(request)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Do the job that a request names."""
    return JOBS[request["job"]](request)


JOBS = {"latency": latency, "answers": answers, "fails": fails, "rate": rate}


if __name__ == "__main__":
    fresh_process.serve(run)
