"""The weights that are kept are the best on rows that were not trained on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pipeline.terms.errors import RarefyError
from stages.keeping import EVERY, Keeper

BEST = 3.0


def network(value=0.0):
    made = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        made.weight.fill_(value)
    return made


def judge(model):
    """A loss that is least where the weight is 3."""
    assert not model.training
    return (float(model.weight) - BEST) ** 2


def run(values, epochs, keeper=None, start=0, model=None):
    """Train through these weights, one a step."""
    keeper = keeper or Keeper(judge, len(values), epochs)
    model = model or network()
    for number, value in enumerate(values[start:], start + 1):
        with torch.no_grad():
            model.weight.fill_(value)
        model.train()
        keeper.step(model, number)
        assert model.training
    return keeper, model


def test_the_best_epoch_is_kept_and_not_the_last():
    keeper, model = run([0, 0, 3, 3, 9, 9], epochs=3)
    assert keeper.losses == [9, 0, 36]
    assert keeper.waiting() == 1
    assert keeper.finish(model) == 0
    assert float(model.weight) == BEST


def test_the_last_epoch_is_kept_if_it_is_the_best():
    keeper, model = run([0, 1, 2], epochs=3)
    assert keeper.waiting() == 0
    assert keeper.finish(model) == 1
    assert float(model.weight) == 2


def test_of_two_that_are_equally_good_the_first_is_kept():
    keeper, model = run([2, 4], epochs=2)
    assert keeper.finish(model) == 1
    assert float(model.weight) == 2


@pytest.mark.parametrize("values", [[math.nan, 1, 2], [1, math.nan, 2], [1, 2, math.nan]])
def test_a_loss_that_is_not_a_number_is_never_the_best(values):
    keeper, model = run(values, epochs=3)
    assert keeper.finish(model) == 1
    assert float(model.weight) == 2


def test_a_training_without_any_finite_loss_diverged():
    keeper, model = run([math.nan, math.nan], epochs=2)
    assert keeper.waiting() == 1
    with pytest.raises(RarefyError, match="training diverged: the loss on dev is not finite"):
        keeper.finish(model)


def test_the_average_of_the_late_steps_is_kept_if_it_is_better_than_every_epoch():
    values = [0.0] * 280 + [2.0] * 4 * EVERY + [4.0] * 4 * EVERY + [3.0] * (4 * EVERY - 1) + [3.6]
    keeper, model = run(values, epochs=1)
    loss = keeper.finish(model)
    mean = (4 * 2 + 4 * 4 + 3 * 3 + 3.6) / 12
    assert float(model.weight) == pytest.approx(mean)
    assert loss == pytest.approx((mean - BEST) ** 2, abs=1e-5)


@pytest.mark.parametrize("steps", [4, 29, 48])
def test_a_short_training_has_an_average_of_its_last_three_tenths(steps):
    late = steps - int(0.7 * steps)
    values = [0.0] * (steps - late) + [2.0 + 2.0 * (at % 2) for at in range(late)]
    keeper, model = run(values, epochs=1)
    assert keeper.counted == late
    average = float(keeper.average["weight"])
    keeper.finish(model)
    assert float(model.weight) == pytest.approx(average) or late == 2


def test_a_training_that_ended_early_has_no_average():
    """It would be of some of the last steps only."""
    values = [9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 2.0, 4.0]
    keeper, model = run(values, epochs=10, keeper=Keeper(judge, 10, 10))
    assert float(keeper.average["weight"]) == BEST
    assert keeper.finish(model) == 1


def test_a_resumed_keeper_ends_as_one_that_was_not_interrupted(tmp_path):
    values = [float(value) for value in range(100)]
    whole, model = run(values, epochs=4)
    half, other = run(values[:80], epochs=4, keeper=Keeper(judge, 100, 4))
    half.save(tmp_path)
    resumed = Keeper(judge, 100, 4)
    resumed.load(tmp_path, "cpu")
    run(values, epochs=4, keeper=resumed, start=80, model=other)
    assert resumed.losses == whole.losses
    assert resumed.counted == whole.counted
    assert torch.equal(resumed.average["weight"], whole.average["weight"])
    assert resumed.finish(other) == whole.finish(model)
    assert torch.equal(other.weight, model.weight)
