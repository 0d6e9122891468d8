"""Microsoft Olive's default latency measurement, reimplemented from its source as a baseline.

Based on olive-ai 0.13.0 (PyPI, MIT); line numbers refer to that wheel:

- ``olive/evaluator/metric_config.py:14–16``: ``WARMUP_NUM = 10``, ``REPEAT_TEST_NUM = 20``,
  ``SLEEP_NUM = 0``; line 24: ``io_bind`` is off.
- ``olive/evaluator/olive_evaluator.py:1234–1264`` (``_evaluate_onnx_latency``): one session, and
  only the first batch of the data; ``olive/data/component/dataloader.py:21``: a batch is one row.
- ``olive/common/ort_inference.py:455–486`` (``time_run``): 30 calls timed by ``perf_counter``,
  each followed by ``sleep(0)``; the first 10 are dropped.
- ``olive/common/ort_inference.py:182–229``: default ``SessionOptions()``, except for what the
  user's ``inference_settings`` set.
- ``olive/evaluator/olive_evaluator.py:261–263``: ``avg`` is the mean in ms, rounded to 5 places.
- ``olive/engine/engine.py:571–574`` and ``olive/search/search_results.py:51–54``: the goals
  ``percent-max-degradation`` and ``percent-min-improvement`` become a threshold on the baseline's
  ``avg``, which the candidate's ``avg`` meets or misses. There is no interval and no test.

The models are measured one after the other in one process (``olive/systems/local.py:48``). Only
the thread count differs from Olive, which leaves it to ONNX Runtime (all cores); here it is the
thread count of the other procedure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rarefy.pipeline.model.runtime.bundle_files import MODEL
from rarefy.pipeline.model.runtime.bundle_model import BundleModel

VERSION = "olive-ai 0.13.0"
WARMUP = 10
REPEATS = 20
SLEEP = 0


def measure(directory: Path, texts: Sequence[str], threads: int = 1) -> list[float]:
    """Return 20 latencies, in ms, of a bundle's graph on the first text."""
    import onnxruntime

    feed = BundleModel(directory, threads=threads).encode(texts[:1])[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(directory / MODEL), options, providers=["CPUExecutionProvider"]
    )
    latencies = []
    for _ in range(WARMUP + REPEATS):
        started = time.perf_counter()
        session.run(None, feed)
        latencies.append((time.perf_counter() - started) * 1000)
        time.sleep(SLEEP)
    return latencies[WARMUP:]


def average(latencies: Sequence[float]) -> float:
    """Return Olive's ``avg``: the mean in ms, to 5 places."""
    return round(sum(latencies) / len(latencies), 5)


def call(
    candidate: Sequence[float], baseline: Sequence[float], margin: float = 0.05
) -> Literal["regression", "improvement", "equal"]:
    """Combine the outcomes of Olive's two percent goals on ``avg``; ``margin`` is a share.

    "regression": the goal percent-max-degradation is not met; "improvement": the goal
    percent-min-improvement is met; "equal": neither.
    """
    ours, theirs = average(candidate), average(baseline)
    if ours > theirs * (1 + margin):
        return "regression"
    return "improvement" if ours <= theirs * (1 - margin) else "equal"
