"""A quantization plan on disk."""

from __future__ import annotations

import pytest

from pipeline.model import quantization
from pipeline.terms.errors import ModelError


def test_a_broken_plan_is_said_by_its_key(tmp_path):
    (tmp_path / "quantization.json").write_text('{"schema": "rarefy.quantization/1", "mod": 1}')
    with pytest.raises(ModelError, match=r"quantization\.json: mod: Extra inputs"):
        quantization.read(tmp_path)
