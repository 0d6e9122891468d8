"""The form of attention in which a network trains fastest.

Imported lazily because it imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from stages.parameters import Row
from stages.rows import lengths
from stages.trainer import use_bf16

SHORT = 128
"""Tokens up to which plain operators train faster in bfloat16 on a CPU.

PyTorch's fused kernel (``scaled_dot_product_attention`` without dropout) multiplies small matrices
slowly on its way back; ``benchmarks/attention.py`` measures it. In fp32 PyTorch's choice stays.
"""


@contextmanager
def fastest(network: Any, device: str, rows: Sequence[Row]) -> Iterator[None]:
    """Let attention be plain operators inside the ``with`` block if that is faster for these rows.

    They compute the same and round otherwise. Networks without fused attention stay as they are.
    """
    config = network.config
    fused = getattr(config, "_attn_implementation", None) == "sdpa"
    short = np.median(lengths(rows)) <= SHORT
    if not (fused and short and device == "cpu" and use_bf16(device, network)):
        yield
        return
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation("sdpa")
