"""Count a bundle's rows a second with tokenizers and onnxruntime alone: a truth without rarefy.

``python -m benchmarks.plain_loop`` is one worker. It reads a request in JSON from the first line of
its input; then, for each size of batch, it says that it is warm, waits for a line, and answers
rows. It imports nothing else of this project, so that it starts in a second.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PASS = 1.0
"""Seconds for which a worker goes over its batches."""
ROWS = 256
"""Rows of a pass, from everywhere in the order of lengths, so that a slow model's is short too."""
GOLDEN = (5**0.5 - 1) / 2
"""Steps of this share of a whole cover it evenly wherever they stop (Weyl 1916)."""


def rates(
    folder: Path, texts: Sequence[str], cores: Sequence[int], sizes: Sequence[int], number: int
) -> dict[int, float]:
    """Return the rows a second that fresh processes answer together, by size of batch.

    Args:
        folder: the bundle.
        texts: rows; a worker answers a share of them.
        cores: those to which the workers are pinned.
        sizes: rows of a call.
        number: of the round; rounds take different rows.
    """
    workers = []
    try:
        for place, core in enumerate(cores):
            request = {
                "folder": str(folder),
                "texts": list(texts[place :: len(cores)]),
                "core": core,
                "sizes": list(sizes),
                "number": number,
            }
            workers.append(_start(request))
        return {size: _together(workers) for size in sizes}
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _start(request: dict[str, Any]) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.plain_loop"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    _say(worker, json.dumps(request))
    return worker


def _together(workers: Sequence[subprocess.Popen[str]]) -> float:
    """Return the rows a second of the next size, from the common start to the last one's end."""
    for worker in workers:
        _hear(worker)
    for worker in workers:
        _say(worker, "go")
    answered = [json.loads(_hear(worker)) for worker in workers]
    began = min(first for _, first, _ in answered)
    ended = max(last for _, _, last in answered)
    rows = sum(rows for rows, _, _ in answered)
    return float(rows / (ended - began))


def _say(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin
    worker.stdin.write(line + "\n")
    worker.stdin.flush()


def _hear(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError("a process of the plain loop has failed")
    return line


# A worker


def work() -> None:
    """Answer rows as the request says."""
    request = json.loads(sys.stdin.readline())
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.sched_setaffinity(0, {request["core"]})
    tokenizer, answer = load(Path(request["folder"]))
    texts = in_order(tokenizer, request["texts"])
    step = max(1, len(texts) // ROWS)
    for size in request["sizes"]:
        batches = [texts[start : start + size] for start in range(0, len(texts), size)]
        passes = _passes(batches, step, request["number"])
        for rows in next(passes):
            answer(rows)
        print("warm", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        count = 0
        while time.monotonic() - began < PASS:
            for rows in next(passes):
                answer(rows)
                count += len(rows)
        print(json.dumps([count, began, time.monotonic()]), flush=True)


def _passes(batches: Sequence[list[str]], step: int, number: int) -> Iterator[Sequence[list[str]]]:
    """Yield every so many-th batch, without end, from places that cover a step evenly."""
    for count in itertools.count(number):
        first = int(count * GOLDEN % 1 * step)
        yield batches[first::step]


def load(folder: Path) -> tuple[Any, Callable[[Sequence[str]], None]]:
    """Return a bundle's tokenizer, and what answers a batch of texts."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    signature = json.loads((folder / "signature.json").read_text())
    names = [entry["name"] for entry in signature["inputs"]]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(signature["max_length"])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    padding = tokenizer.token_to_id(config["pad_token"])
    tokenizer.enable_padding(pad_id=padding, pad_token=config["pad_token"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    stored = json.loads((folder / "session_options.json").read_text())
    level = stored["graph_optimization_level"].upper()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    model = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def answer(texts: Sequence[str]) -> None:
        encodings = tokenizer.encode_batch(texts)
        columns = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        model.run(None, {name: np.array(columns[name], np.int64) for name in names})

    return tokenizer, answer


def in_order(tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """Return texts from the shortest to the longest."""
    tokens = []
    for encoding in tokenizer.encode_batch(texts):
        tokens.append(sum(encoding.attention_mask))
    order = sorted(range(len(texts)), key=tokens.__getitem__)
    return [texts[row] for row in order]


if __name__ == "__main__":
    work()
