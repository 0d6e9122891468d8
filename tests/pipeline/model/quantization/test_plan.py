"""A quantization plan on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.terms.errors import ModelError


def test_a_broken_plan_is_said_by_its_key(tmp_path):
    (tmp_path / "quantization.json").write_text('{"schema": "rarefy.quantization/6", "mod": 1}')
    with pytest.raises(ModelError, match=r"quantization\.json: mod: Extra inputs"):
        quantization.read(tmp_path)


@pytest.mark.parametrize("number", [5, 7])
def test_a_plan_of_another_version_is_refused_in_one_line(tmp_path, number):
    text = json.dumps({"schema": f"rarefy.quantization/{number}"})
    (tmp_path / "quantization.json").write_text(text)
    with pytest.raises(ModelError, match=r"'rarefy\.quantization/6'; run the recipe again [^\n]*$"):
        quantization.read(tmp_path)


def integers(weight, isa):
    return np.clip(np.rint(weight / quantization.weight_scales(weight, isa)), -127, 127)


def sums_in_16_bits(weight):
    """The largest and smallest sums of two neighbours' products with any uint8 inputs."""
    even = np.pad(weight, ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    return 255 * np.maximum(even, 0).sum(axis=1).max(), 255 * np.minimum(even, 0).sum(axis=1).min()


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 4)),
        elements=st.floats(-8, 8, width=32),
    )
)
def test_no_pair_of_products_overflows_16_bits_without_vnni(weight):
    most, least = sums_in_16_bits(integers(weight, "avx2"))
    assert -(2**15) <= least <= most < 2**15


def test_with_vnni_a_column_has_all_steps_and_its_pairs_may_overflow():
    weight = np.ones((4, 3), dtype=np.float32)
    assert integers(weight, "vnni").tolist() == [[127] * 3] * 4
    assert integers(weight, "avx2").tolist() == [[64] * 3] * 4
    assert sums_in_16_bits(integers(weight, "vnni"))[0] >= 2**15


def test_large_weights_that_are_no_neighbours_keep_their_steps():
    """The second and third are no pair, nor are a positive and a negative one."""
    weight = np.array([[0.0], [1.0], [1.0], [-1.0]], dtype=np.float32)
    assert integers(weight, "avx2").ravel().tolist() == [0, 127, 127, -127]


def test_random_weights_lose_a_third_of_a_bit_where_seven_bits_lose_one():
    weight = np.random.default_rng(0).standard_normal((384, 64)).astype(np.float32)
    wide, narrow = (quantization.weight_scales(weight, isa) for isa in ("vnni", "avx2"))
    assert 1.15 < np.mean(narrow / wide) < 1.35


def test_a_column_of_zeros_has_a_scale():
    assert quantization.weight_scales(np.zeros((3, 1), np.float32), "avx2") > 0
