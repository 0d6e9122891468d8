"""The table of architectures, checked against transformers' own models."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import transformers
from torch import nn

from pipeline.model import architectures
from pipeline.terms.errors import ModelError

NAMES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "electra": "Electra",
    "distilbert": "DistilBert",
    "mpnet": "MPNet",
}


def classifier(kind: str):
    sizes = {"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 4}
    sizes |= {"num_hidden_layers": 3, "intermediate_size": 24}
    if kind == "distilbert":
        sizes = {"vocab_size": 30, "dim": 16, "n_heads": 4, "n_layers": 3, "hidden_dim": 24}
    config = getattr(transformers, f"{NAMES[kind]}Config")(**sizes)
    return getattr(transformers, f"{NAMES[kind]}ForSequenceClassification")(config)


@pytest.mark.parametrize("kind", architectures.ARCHITECTURES)
def test_every_part_is_where_the_table_says(kind):
    model = classifier(kind)
    table = architectures.of(model)
    layers = architectures.encoder_layers(model)
    assert len(layers) == 3
    for layer in layers:
        shapes = {
            part: tuple(layer.get_submodule(getattr(table, part)).weight.shape)
            for part in ("query", "key", "value", "output", "up", "down")
        }
        square = dict.fromkeys(("query", "key", "value", "output"), (16, 16))
        assert shapes == square | {"up": (24, 16), "down": (16, 24)}
        assert getattr(layer.get_submodule(table.attention), table.head_count) == 4
    assert architectures.head_size(model) == 4
    assert architectures.head_counts(model) == [4, 4, 4]
    assert architectures.neuron_counts(model) == [24, 24, 24]


def test_the_outputs_of_a_thin_layer_and_of_one_with_an_adapter():
    thin = nn.Module()
    thin.down, thin.up = nn.Linear(16, 2), nn.Linear(2, 12)
    assert architectures.out_features(thin) == 12
    adapted = nn.Module()
    adapted.base_layer = nn.Linear(16, 7)
    assert architectures.out_features(adapted) == 7


def test_an_unknown_architecture_is_named_with_those_that_are_known():
    model = SimpleNamespace(config=SimpleNamespace(model_type="mamba"))
    with pytest.raises(ModelError, match=r"'mamba'.*supported: bert, roberta"):
        architectures.of(model)
