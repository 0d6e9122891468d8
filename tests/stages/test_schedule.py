"""Weights change as they were asked to, step by step, also in a training that goes on."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from pipeline.model import checkpoint
from pipeline.terms.errors import RecipeError
from stages import schedule, trainer
from stages.distill import Distill
from stages.schedule import Clock


def test_a_weight_goes_evenly_from_the_first_to_the_last():
    assert [Clock(share).now((1.0, 0.5)) for share in (0, 0.5, 1)] == [1, 0.75, 0.5]
    assert [Clock(share).now(0.3) for share in (0, 1)] == [0.3, 0.3]
    assert schedule.times((1.0, 0.5), 0.5) == (0.5, 0.25)
    assert schedule.times(4.0, 0.5) == 2


def test_a_weight_that_stays_is_one_number():
    assert Distill(layers=1, hidden_weight=(0, 0)).hidden_weight == 0
    assert not Distill(layers=1, hidden_weight=[0, 0]).weighed
    assert Distill(layers=1, hidden_weight=[0, 1]).weighed == ["hidden_weight"]
    assert Distill(layers=1, alpha=[0.5, 0.5]).alpha == 0.5


@pytest.mark.parametrize(
    ("parameters", "bounds"),
    [
        ({"alpha": [1, 1.1]}, "from 0 to 1"),
        ({"alpha": [1, 0.5, 0]}, "from 0 to 1"),
        ({"alpha": -0.1}, "from 0 to 1"),
        ({"hidden_weight": [-1, 0]}, "from 0"),
        ({"relation_weight": "much"}, "from 0"),
    ],
)
def test_weights_that_are_none_are_refused_in_one_line(parameters, bounds, workshop):
    told = f"distill.{next(iter(parameters))}: give a number {bounds}, or the first and the last: "
    with pytest.raises(RecipeError, match=re.escape(told)):
        workshop.open("quick:Head", {"distill": {"layers": 1, **parameters}})


class StoppedError(Exception):
    """The end of a training before its time."""


def test_every_step_has_its_share_also_after_a_stop(tuned, make_context, monkeypatch, tmp_path):
    seen: list[float] = []
    monkeypatch.setattr(
        Clock, "now", lambda self, weight: seen.append(self.share) or weight[0] + self.share * -0.5
    )
    stage = Distill(layers=1, alpha=(1, 0.5), epochs=2, batch_size=8)
    context = make_context(rows=40, work=tmp_path / "whole")
    stage.run(context, tuned)
    whole, result = list(seen), checkpoint.load(context.output)
    assert (whole[0], whole[-1], len(whole)) == (0, 1, 10)
    assert all(later - earlier == pytest.approx(1 / 9) for earlier, later in pairwise(whole))

    def stop(done, total, note):
        if (done, total) == (6, 10):
            raise StoppedError

    seen.clear()
    monkeypatch.setattr(trainer, "pause", lambda *_: 0.0)
    with pytest.raises(StoppedError):
        stage.run(make_context(rows=40, work=tmp_path / "killed", progress=stop), tuned)
    del seen[5:]  # the sixth step was not kept
    context = make_context(rows=40, work=tmp_path / "killed")
    stage.run(context, tuned)
    assert seen == whole
    again = checkpoint.load(context.output)
    for one, other in zip(result.parameters(), again.parameters(), strict=True):
        assert (one == other).all()


def test_every_weight_is_asked_for_at_every_step(tuned, make_context, monkeypatch):
    seen: dict[object, list[float]] = {}
    real = Clock.now
    monkeypatch.setattr(
        Clock,
        "now",
        lambda self, weight: seen.setdefault(weight, []).append(self.share) or real(self, weight),
    )
    weights = {"alpha": (1, 0), "hidden_weight": (0.8, 0), "relation_weight": (0, 0.6)}
    stage = Distill(layers=1, relation_heads=2, epochs=1, batch_size=8, **weights)
    stage.run(make_context(rows=40), tuned)
    assert seen == {weight: [0, 0.25, 0.5, 0.75, 1] for weight in weights.values()}
