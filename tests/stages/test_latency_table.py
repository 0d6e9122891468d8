"""Times of layers, and the units that a budget of time pays for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.terms.errors import ModelError
from stages import latency_table
from stages.latency_table import Choice, Curve, Table, grid, spend

HEADS = Curve((1, 2, 4), one=(2.0, 2.5, 3.0), two=(5.0, 6.0, 7.0))
NEURONS = Curve((16, 64), one=(2.2, 3.0), two=(5.4, 7.0))
TABLE = Table("machine", 1, 20, {"heads": HEADS, "neurons": NEURONS})


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


def test_counts_to_measure_are_multiples_from_the_least_to_all():
    assert grid(12, 1) == (1, 3, 6, 9, 12)
    assert grid(3072, 16) == (16, 768, 1536, 2304, 3072)
    assert grid(100, 16)[-1] == 100
    assert grid(1, 1) == (1,)


def choices(seed, parts=4, counts=6):
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(parts):
        each = np.sort(draw.exponential(size=counts))
        lost = np.concatenate([[0], np.cumsum(each)])[counts - np.arange(1, counts + 1)]
        made.append(Choice(np.arange(1, counts + 1), lost, np.cumsum(draw.uniform(0.1, 1, counts))))
    return made


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_budget_is_spent_almost_as_well_as_by_trying_everything(seed, share):
    parts = choices(seed)
    budget = share * sum(choice.cost[-1] for choice in parts)
    if budget < sum(choice.cost[0] for choice in parts):
        pytest.skip("out of reach")
    counts = spend(parts, budget)
    places = [count - 1 for count in counts]

    def of(chosen):
        lost = sum(choice.lost[at] for choice, at in zip(parts, chosen, strict=True))
        return lost, sum(choice.cost[at] for choice, at in zip(parts, chosen, strict=True))

    lost, ms = of(places)
    assert ms <= budget + 1e-9
    every = itertools.product(*(range(len(choice.counts)) for choice in parts))
    best = min(found[0] for found in map(of, every) if found[1] <= budget)
    assert lost <= 1.15 * best + 0.2


def test_everything_stays_if_there_is_time_for_it():
    parts = choices(0)
    assert spend(parts, 1e9) == [6, 6, 6, 6]


def test_what_no_count_can_reach_is_refused():
    with pytest.raises(ModelError, match=r"at least .* remain where 0.01 are asked for"):
        spend(choices(0), 0.01)
