"""Whether this CPU computes int8 products exactly, found by computing one.

x86 without VNNI adds pairs of uint8 · int8 products in 16 bits, which saturate, silently. A product
that must not saturate shows it, on every CPU and under emulation, where lists of flags are wrong.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any

from rarefy.pipeline.terms.errors import ProviderError

PROBE = (
    "CAg6YgoYCgFhCgFiEgF5Ig1NYXRNdWxJbnRlZ2VyEgFnWhUKAWESEAoOCAISCgoDEgFtCgMSAWtaFQoBYhIQCg4IAxIKCgMS"
    "AWsKAxIBbmIVCgF5EhAKDggGEgoKAxIBbQoDEgFuQgQKABAR"
)
"""An ONNX model of one node, ``y = MatMulInteger(a, b)``, in base64."""


@cache
def exact() -> bool:
    """Return whether sums of products of the largest uint8 and int8 are right here."""
    import numpy as np
    import onnxruntime

    probe = base64.b64decode(PROBE)
    session = onnxruntime.InferenceSession(probe, providers=["CPUExecutionProvider"])
    left = np.full((1, 64), 255, np.uint8)
    right = np.full((64, 16), 127, np.int8)
    sums = session.run(None, {"a": left, "b": right})[0]
    return bool((sums == 255 * 127 * 64).all())


def check(signature: Mapping[str, Any]) -> None:
    """Raise ProviderError if a bundle needs exact products and this CPU has none."""
    if signature.get("isa") == "vnni" and not exact():
        raise ProviderError(
            "this bundle was made for CPUs with VNNI (isa: vnni), and gives wrong predictions on "
            "this one; export it for a target without isa"
        )
