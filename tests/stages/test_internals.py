"""Hidden states, queries, keys and values are those that the layers compute."""

from __future__ import annotations

import pytest
import torch

from pipeline.model import parts
from pipeline.terms.errors import ModelError
from stages.internals import Internal, captured, width
from tests.families import write_family
from tests.stages.classifiers import relations_of

IDS = torch.tensor([[2, 5, 6, 7]])


@pytest.mark.parametrize("family", ["bert", "mpnet", "distilbert", "roberta", "deberta-v3"])
def test_states_are_what_the_layers_make_of_their_input(family, tmp_path):
    model = write_family(tmp_path, family, "AutoModelForSequenceClassification").eval()
    wanted = [Internal("hidden", 0), *relations_of(1)]
    with torch.no_grad(), captured(model, wanted) as found:
        model(input_ids=IDS.flip(1))  # what a pass leaves is gone with the next
        output = model(input_ids=IDS, output_hidden_states=True)
    assert torch.equal(found[wanted[0]], output.hidden_states[1])
    layer = parts.encoder_layers(model)[1]
    makers = [each for each in parts.of(model).heads.makers if not each.positions]
    for each, maker in zip(relations_of(1), makers, strict=True):
        expected = layer.get_submodule(maker.path)(output.hidden_states[1])
        assert torch.allclose(found[each], expected, atol=1e-6)
    assert [state.shape for state in found.all(wanted)] == [(1, 4, 32)] * 4
    assert [width(model, each) for each in wanted] == [32] * 4


def test_one_matrix_of_all_three_is_cut(tmp_path):
    model = write_family(tmp_path, "modernbert", "AutoModelForSequenceClassification").eval()
    with torch.no_grad(), captured(model, relations_of(1)) as found:
        model(input_ids=IDS)
    together = torch.cat(found.all(relations_of(1)), dim=-1)
    assert together.shape == (1, 4, 96)
    maker = parts.encoder_layers(model)[1].get_submodule(parts.of(model).heads.makers[0].path)
    assert maker.out_features == 96
    assert [width(model, each) for each in relations_of(1)] == [32] * 3


def test_nothing_stays_attached(tmp_path):
    model = write_family(tmp_path, "bert", "AutoModelForSequenceClassification").eval()
    with captured(model, relations_of(0)):
        pass
    assert not any(module._forward_hooks for module in model.modules())


def test_other_families_are_refused(tmp_path):
    model = write_family(tmp_path, "albert", "AutoModelForSequenceClassification").eval()
    with pytest.raises(ModelError, match="are not described"), captured(model, relations_of(0)):
        pass
