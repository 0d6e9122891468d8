"""Times of layers, and the units that a budget of time pays for."""

from __future__ import annotations

import pytest

from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.prune import latency_table
from rarefy.stages.prune.latency_table import Curve, Table, grid
from tests.stages.classifiers import classifier

HEADS = Curve((1, 2, 4), one=(2.0, 2.5, 3.0), two=(5.0, 6.0, 7.0))
NEURONS = Curve((16, 64), one=(2.2, 3.0), two=(5.4, 7.0))
TABLE = Table("machine", 1, 20, {"heads": HEADS, "neurons": NEURONS}, {"hidden_size": 32}, "int8")


def test_a_model_of_whole_layers_takes_what_was_measured():
    whole = {"heads": 4, "neurons": 64}
    assert TABLE.ms([whole]) == pytest.approx(3)
    assert TABLE.ms([whole] * 2) == pytest.approx(7)
    assert TABLE.ms([whole] * 4) == pytest.approx(3 + 3 * 4)


def test_fewer_units_save_their_difference_and_the_last_layer_its_own():
    whole, fewer = {"heads": 4, "neurons": 64}, {"heads": 2, "neurons": 64}
    assert TABLE.ms([fewer, whole]) == pytest.approx(7 - (4 - 3.5))
    assert TABLE.ms([whole, fewer]) == pytest.approx(7 - (3 - 2.5))
    assert TABLE.ms([{"heads": 3, "neurons": 64}, whole]) == pytest.approx(7 - (4 - 3.75))
    both = {"heads": 1, "neurons": 16}
    assert TABLE.ms([both, whole]) == pytest.approx(7 - (4 - 3) - (4 - 3.2))


def test_a_table_is_read_as_it_was_written(tmp_path):
    TABLE.save(tmp_path)
    assert latency_table.load(tmp_path) == TABLE
    with pytest.raises(ModelError, match=r"prune.table: that stage wrote no latencies.json"):
        latency_table.load(tmp_path / "other")


def test_an_older_table_is_made_again(tmp_path):
    (tmp_path / latency_table.FILE).write_text('{"schema": "rarefy.latencies/1"}')
    with pytest.raises(ModelError, match=r"prune.table: another version .* run 'profile' again"):
        latency_table.load(tmp_path)


def test_a_model_is_known_by_its_family_and_sizes():
    wanted = {"model_type": "distilbert", "hidden_size": 32, "head_size": 8}
    assert latency_table.model_of(classifier("distilbert")) == wanted


def test_counts_to_measure_are_multiples_from_the_least_to_all():
    assert grid(12, 1) == (1, 3, 6, 9, 12)
    assert grid(3072, 16) == (16, 768, 1536, 2304, 3072)
    assert grid(100, 16)[-1] == 100
    assert grid(1, 1) == (1,)
