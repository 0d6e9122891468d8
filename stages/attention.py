"""The form of attention in which a network trains fastest.

Imported lazily because it imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT = 128
"""Tokens up to which plain operators train faster in bfloat16 on a CPU.

PyTorch's fused kernel (``scaled_dot_product_attention`` without dropout) multiplies small matrices
slowly on its way back; with dropout there is little between the two
(``benchmarks/results/attention.json``). In fp32 PyTorch's choice stays.
"""


@contextmanager
def fastest(network: Any, device: str, tokens: NDArray[np.int64], *, bf16: bool) -> Iterator[None]:
    """Let attention be plain operators inside the ``with`` block if training is faster so.

    ``tokens``: the lengths of the rows. Plain operators compute the same and round otherwise.
    Networks without fused attention stay as they are.
    """
    fused = getattr(network.config, "_attn_implementation", None) == "sdpa"
    if not (fused and bf16 and device == "cpu" and np.median(tokens) <= SHORT):
        yield
        return
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation("sdpa")
