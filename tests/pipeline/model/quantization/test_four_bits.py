"""Tables in 4 bits: every value within half a step of its block, and zeros stay zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.model.quantization.four_bits import BLOCK

TABLES = st.integers(1, 3 * BLOCK).flatmap(
    lambda columns: arrays(np.float32, (3, columns), elements=st.floats(-9, 9, width=32))
)


@given(TABLES)
def test_values_come_back_within_half_a_step_of_their_block(table):
    made = four_bits.blocks(table)
    assert made.codes.shape == table.shape
    assert made.codes.max() <= 15
    assert made.zeros.max() <= 15
    step = np.repeat(made.scales, BLOCK, axis=1)[:, : table.shape[1]]
    # The zero point is rounded, so the ends of a block may be half a step further away.
    assert (np.abs(made.values() - table) <= step * 1.001 + 1e-6).all()
    assert (made.values()[table == 0] == 0).all()


def test_a_block_of_one_sign_begins_at_zero():
    made = four_bits.blocks(np.linspace(1, 2, BLOCK, dtype=np.float32)[None])
    assert made.zeros.tolist() == [[0]]
    assert made.scales[0, 0] == pytest.approx(2 / 15)


def test_two_numbers_are_in_a_byte_also_if_there_is_an_odd_one():
    assert four_bits.packed(np.array([[1, 2, 15]], np.uint8)).tolist() == [[0x21, 0x0F]]


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=st.integers(0, 15))
)
def test_what_was_packed_is_unpacked(numbers):
    assert (four_bits.unpacked(four_bits.packed(numbers), numbers.shape[1]) == numbers).all()


def test_the_same_weights_are_the_same_bytes(tmp_path: Path):
    made = four_bits.blocks(np.ones((2, 3), np.float32))
    layers, written = {f"layer.{at}": made for at in range(12)}, set()
    for _ in range(4):
        four_bits.write(layers, tmp_path)
        written.add((tmp_path / four_bits.FILE).read_bytes())
    assert len(written) == 1
    assert list(four_bits.read(tmp_path)) == list(layers)


@pytest.mark.parametrize("columns", [1, BLOCK, BLOCK + 1, 3 * BLOCK - 1])
def test_weights_are_read_as_they_were_written(columns: int, tmp_path: Path):
    """Of one block and of two, whose zero points are in one byte; with an odd column, too."""
    made = four_bits.blocks(np.random.default_rng(0).standard_normal((3, columns), np.float32))
    four_bits.write({"a.b": made}, tmp_path)
    (found,) = four_bits.read(tmp_path).values()
    for part, wanted in made._asdict().items():
        np.testing.assert_array_equal(getattr(found, part), wanted)


def test_layers_of_a_network_are_given_the_weights():
    network = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 2))
    made = four_bits.blocks(network[1].weight.detach().numpy())
    before = network[0].weight.clone()
    four_bits.put({"1": made}, network)
    assert (network[1].weight.numpy(force=True) == made.values()).all()
    assert (network[0].weight == before).all()


def test_a_checkpoint_without_such_weights_has_none(tmp_path: Path):
    assert four_bits.read(tmp_path) == {}
