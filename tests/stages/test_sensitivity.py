"""The effect of rounding on a layer."""

from __future__ import annotations

import numpy as np
import torch

from stages import sensitivity


def test_fake_quantization_is_pytorchs():
    """Checked against torch's own affine quantization."""
    values = torch.from_numpy(np.random.default_rng(0).normal(size=500).astype(np.float32))
    low, high = values.min(), values.max()
    step = float(high - low) / 255
    want = torch.quantize_per_tensor(values, step, round(-float(low) / step), torch.quint8)
    got = sensitivity.fake_quantize(values, low, high)
    torch.testing.assert_close(got, want.dequantize(), atol=step * 1.01, rtol=0)
    assert (got - values).abs().max() <= step * 0.51 or (got - values).abs().max() <= step
