"""The layers that change the answers least are found, and a killed search goes on."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.stage.tasks.text_classification import ClassObjective
from stages import layer_search, surgery
from tests.stages.classifiers import IDS, MASK, classifier

BATCH = {"input_ids": IDS, "attention_mask": MASK}


def test_a_layer_that_does_nothing_goes_first(make_context):
    model = classifier("bert")
    idle = model.bert.encoder.layer[1]
    with torch.no_grad():
        idle.attention.output.dense.weight.zero_()
        idle.attention.output.dense.bias.zero_()
        idle.output.dense.weight.zero_()
        idle.output.dense.bias.zero_()
        before = model.bert.encoder.layer[0].output.LayerNorm
        for norm in (idle.attention.output.LayerNorm, idle.output.LayerNorm):
            norm.weight.fill_(1), norm.bias.zero_()
        before.weight.fill_(1), before.bias.zero_()
    assert layer_search.least_needed(make_context(), model, 1, [BATCH]) == {1}


def test_a_first_layer_that_must_stay_is_no_candidate(make_context):
    model = classifier("modernbert")
    rows = [{"input_ids": IDS[:1], "attention_mask": torch.ones_like(IDS[:1])}]
    assert layer_search.least_needed(make_context(), model, 2, rows) == {1, 2}


@pytest.fixture
def other(make_context, tmp_path):
    """A context in which nothing was measured yet."""
    (tmp_path / "other").mkdir()
    return make_context(work=tmp_path / "other")


def test_a_killed_search_measures_nothing_twice(make_context, other, monkeypatch):
    """Three layers are tried alone, then two more with the one that went."""
    expected = layer_search.least_needed(other, classifier("bert"), 2, [BATCH])
    real, tried = ClassObjective.divergence, []

    def killed(self, *answers):
        tried.append(answers)
        if len(tried) == 5:
            raise KeyboardInterrupt
        return real(self, *answers)

    monkeypatch.setattr(ClassObjective, "divergence", killed)
    with pytest.raises(KeyboardInterrupt):
        layer_search.least_needed(make_context(), classifier("bert"), 2, [BATCH])
    assert layer_search.least_needed(make_context(), classifier("bert"), 2, [BATCH]) == expected
    assert len(tried) == 5 + 1
    monkeypatch.setattr(layer_search, "outputs", lambda *_: pytest.fail("computed answers again"))
    assert layer_search.least_needed(make_context(), classifier("bert"), 2, [BATCH]) == expected


def test_a_model_that_lost_a_layer_since_is_measured_anew(make_context, other):
    context, model = make_context(), classifier("bert")
    layer_search.least_needed(context, model, 1, [BATCH])
    surgery.keep_layers(model, [1, 2])
    layer_search.least_needed(context, model, 1, [BATCH])
    layer_search.least_needed(other, model, 1, [BATCH])
    noted, alone = (
        json.loads((each.work / "layers.json").read_text()) for each in (context, other)
    )
    assert len(alone) == 3
    assert all(noted[key] == alone[key] for key in alone if key != "seconds")


def test_what_went_before_counts_if_the_whole_model_s_answers_are_given(make_context, monkeypatch):
    """The layer that changes a damaged model least is not always that of least damage in all."""
    model = classifier("bert")
    context = make_context()
    whole = layer_search.outputs(context.task, model, [BATCH]) + 1
    seen, real = [], ClassObjective.divergence

    def divergence(self, exact, found):
        seen.append(exact)
        return real(self, exact, found)

    monkeypatch.setattr(ClassObjective, "divergence", divergence)
    layer_search.least_needed(context, model, 1, [BATCH], whole=whole)
    assert seen
    assert all(exact is whole for exact in seen)
