"""A run as a real chain produces it, with handmade measurements."""

from __future__ import annotations

import random
from functools import cache
from hashlib import sha256
from typing import Any

from rarefy.pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from rarefy.pipeline.verdict.record import LedgerRow, LineageNode, ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict

CHAIN = [
    # id, stage, kind, accuracy, parameters, size, seconds, p50 ms in fused fp32
    ("teacher", "finetune", "checkpoint", 0.832, 22_714_000, 91_600_000, 412.0, 6.4),
    ("student", "distill", "checkpoint", 0.826, 17_380_000, 70_300_000, 190.0, 3.3),
    ("prune", "prune", "checkpoint", 0.821, 14_100_000, 57_100_000, 74.0, 2.2),
    ("adapt", "adapt", "adapter", 0.829, 14_220_000, 57_600_000, 66.0, None),
    ("quantize", "quantize", "adapter", 0.829, 14_220_000, 57_600_000, 5.1, None),
    ("merge", "merge", "checkpoint", 0.829, 14_100_000, 57_100_000, 0.6, 2.2),
    ("export", "export", "bundle", 0.824, 14_100_000, 15_400_000, 9.3, 1.05),
]


def digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def ledger() -> list[LedgerRow]:
    rows = [
        LedgerRow(
            id=name, stage=stage, kind=kind, digest=digest(name), cached=name == "teacher",
            seconds=seconds, metric="accuracy", accuracy=(score, score - 0.015, score + 0.015),
            rows=2500, parameters=parameters, size=size,
        )
        for name, stage, kind, score, parameters, size, seconds, _ in CHAIN
    ]  # fmt: skip
    report = LedgerRow(
        id="validate", stage="validate", kind="report", digest=digest("validate"),
        cached=False, seconds=61.0, size=820_000,
    )  # fmt: skip
    return [*rows, report]


def probabilities(truth: list[int], accuracy: float, noise: random.Random) -> list[list[float]]:
    """Answers that are right on exactly that share of rows: mostly the first ones, some swapped."""
    correct = [row < round(accuracy * len(truth)) for row in range(len(truth))]
    for _ in range(len(truth) // 100):
        one, other = noise.randrange(len(truth)), noise.randrange(len(truth))
        correct[one], correct[other] = correct[other], correct[one]
    result = []
    for true, right in zip(truth, correct, strict=True):
        share = 0.6 + 0.39 * noise.random()
        result.append([share, 1 - share] if (true == 0) == right else [1 - share, share])
    return result


def latency(scale: float, calls: int, processes: int, noise: random.Random) -> Latency:
    tokens = [noise.randint(6, 60) for _ in range(calls)]
    samples = {
        ("candidate" if name == "export" else name): [
            [p50 * scale * (0.45 + t / 60) * noise.lognormvariate(0, 0.06) for t in tokens]
            for _ in range(processes)
        ]
        for name, *_, p50 in CHAIN
        if p50
    }
    cpu = {"candidate": [[0.98 * t for t in one] for one in samples["candidate"]]}
    tokenizer = {"candidate": [[0.05 + 0.001 * t for t in tokens]] * processes}
    return Latency(
        samples=samples, cpu=cpu, tokenizer=tokenizer, tokens=tokens, noise=(0.992, 1.009),
        provider="CPUExecutionProvider", threads=1 if scale == 1 else 2,
    )  # fmt: skip


def slices(truth: list[int]) -> dict[str, list[str]]:
    lengths = ("4–9 tokens", "10–17 tokens", "18–30 tokens", "31–64 tokens")
    rows = range(len(truth))
    return {
        "length": [lengths[row * 7 % 4] for row in rows],
        "label": [("negative", "positive")[label] for label in truth],
        "source": [("web", "print", "other")[row % 3] for row in rows],
    }


@cache
def measurements(calls: int = 400, rows: int = 2500, samples: int = 12) -> Measurements:
    noise = random.Random(0)
    truth = [noise.randint(0, 1) for _ in range(rows)]
    models = {
        ("candidate" if name == "export" else name): ModelMeasurement(
            digest=digest(name), size=size, parameters=parameters, memory=48_000_000,
            answers=probabilities(truth, score, noise),
        )
        for name, _, _, score, parameters, size, _, p50 in CHAIN
        if p50
    }  # fmt: skip
    texts = [
        "A thoughtful, provocative, insistently humanizing film that never quite lets go.",
        "Too slow, too long and too little happens.",
        "The story is bogus and its characters tissue-thin, yet somehow it charms.",
    ]
    kinds = ("lost", "won", "sure and wrong")
    shown = [
        {
            "kind": kinds[i % 3],
            "text": texts[i % 3],
            "truth": ("positive", "negative")[i % 2],
            "reference": ("positive", "negative")[(i + (i % 3 > 0)) % 2],
            "candidate": ("positive", "negative")[(i + (i % 3 != 1)) % 2],
            "sureness": f"{99 - i % 40}%",
        }
        for i in range(samples)
    ]
    timed = {"cpu": latency(1, calls, 5, noise), "cpu-all": latency(0.6, calls // 4, 1, noise)}
    timed["cpu-all"].busy.append("load average 2.7 on 2 cores while measuring")
    return Measurements(
        machine=machine(), task="text-classification", labels=["negative", "positive"],
        truth=truth, models=models, latency=timed, samples=shown,
        slices=slices(truth),
    )  # fmt: skip


def loses_a_slice() -> Measurements:
    """The same, but the candidate flips its answer on every twelfth of the longest rows."""
    found = measurements().model_copy(deep=True)
    answers = found.models["candidate"].answers
    longest = [row for row, part in enumerate(found.slices["length"]) if part == "31–64 tokens"]
    for row in longest[::12]:
        answers[row].reverse()
    return found


def verdict() -> Verdict:
    common: dict[str, Any] = {"against": "teacher", "outcome": "pass"}
    budgets = [
        BudgetResult(
            metric="accuracy", form="min_retained", limit=0.97, value=0.9904, low=0.981, high=0.999,
            reason="accuracy is 99.0% [98.1, 99.9] of teacher's; at least 97% is required",
            **common,
        ),
        BudgetResult(
            metric="latency_p50", form="min_speedup", limit=5, value=6.08, low=5.94, high=6.21,
            target="cpu", **common,
            reason="6.08× [5.94, 6.21] faster than teacher on cpu; at least 5× is required",
        ),
        BudgetResult(
            metric="size", form="min_shrink", limit=5, value=5.95, low=5.95, high=5.95,
            reason="15.4 MB against 91.6 MB", **common,
        ),
        BudgetResult(
            metric="latency_p95", form="max", limit=1.6, value=1.58, low=1.52, high=1.66,
            target="cpu", outcome="inconclusive", level="warn",
            reason="the interval 1.52 – 1.66 ms spans the limit of 1.60 ms",
        ),
        BudgetResult(
            metric="memory", form="max", limit=40e6, value=48e6, level="warn",
            outcome="fail", reason="48 MB is above the limit of 40 MB",
        ),
    ]  # fmt: skip
    return Verdict(outcome="pass", budgets=budgets)


def machine() -> dict[str, Any]:
    return {
        "cpu": "Intel(R) Xeon(R) Processor @ 2.10GHz", "flags": ["avx2", "avx512_vnni", "amx_int8"],
        "cores": 2, "memory": 25_200_000_000, "provider": "CPUExecutionProvider",
        "libraries": {"onnxruntime": "1.32.0", "torch": "2.13.0", "transformers": "5.24.0"},
    }  # fmt: skip


def lineage() -> list[LineageNode]:
    nodes = []
    previous = None
    for name, stage, kind, score, *_ in CHAIN:
        parents = {digest(previous): "input"} if previous else {digest("model"): "input"}
        if name in ("student", "prune", "adapt"):
            parents[digest("teacher")] = parents.get(digest("teacher"), "teacher")
        metrics = [{"name": "accuracy", "split": "eval", "value": score, "n": 2500}]
        nodes.append(
            LineageNode(
                id=name, stage=stage, version=1, digest=digest(name), kind=kind, parents=parents,
                parameters={"epochs": 3, "learning_rate": 7e-5, "rank": 8}, metrics=metrics,
            )
        )  # fmt: skip
        previous = name
    return nodes


def report_data(**changes: Any) -> ReportData:
    """A run with a verdict; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "name": "movie-reviews",
        "created": "2025-11-25T01:12:09Z",
        "command": "rarefy run examples/movie-reviews.yaml --engine inline",
        "recipe": "name: movie-reviews\nstages:\n  - finetune: {epochs: 3}\n",
        "task": "text-classification",
        "labels": ["negative", "positive"],
        "rows": {"train": 7400, "eval": 2500},
        "warnings": ["train: 12 rows without text were left out"],
        "ledger": ledger(),
        "lineage": lineage(),
        "verdict": verdict(),
        "measurements": measurements(),
        "machine": machine(),
    }
    return ReportData.model_validate(fields | changes)
