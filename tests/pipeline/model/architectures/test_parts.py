"""The description of every family, checked against transformers' own models."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import transformers
from torch import nn

from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.architectures.families import ARCHITECTURES
from rarefy.pipeline.terms.errors import ModelError

PLAIN = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "data2vec-text")
PLAIN += ("roberta-prelayernorm", "distilbert", "mpnet")
"""Families in which a linear layer is one matrix."""


def classifier(kind: str, **further):
    sizes = {"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 4}
    sizes |= {"num_hidden_layers": 3, "intermediate_size": 24, "pad_token_id": 0}
    if kind == "distilbert":
        sizes = {"vocab_size": 30, "dim": 16, "n_heads": 4, "n_layers": 3, "hidden_dim": 24}
    if kind == "modernbert":
        further |= dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id"), 2)
    config = transformers.AutoConfig.for_model(kind, **sizes, **further)
    return transformers.AutoModelForSequenceClassification.from_config(config)


def shapes(layer, units) -> list[tuple[int, int]]:
    paths = [maker.path for maker in parts.makers(layer, units)] + [units.reader]
    return [tuple(layer.get_submodule(path).weight.shape) for path in paths]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_counts_of_every_family(kind):
    model = classifier(kind)
    assert len(parts.encoder_layers(model)) == 3
    assert parts.head_size(model) == 4
    assert parts.head_counts(model) == [4, 4, 4]
    assert parts.neuron_counts(model) == [24, 24, 24]
    assert (parts.depth(model.config), parts.width(model.config)) == (3, 16)


@pytest.mark.parametrize("kind", PLAIN)
def test_every_part_is_where_the_table_says(kind):
    model = classifier(kind)
    table = parts.of(model)
    for layer in parts.encoder_layers(model):
        assert shapes(layer, table.heads) == [(16, 16)] * 4
        assert shapes(layer, table.neurons) == [(24, 16), (16, 24)]
        assert getattr(layer.get_submodule(table.attention), table.head_count) == 4


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_layers_contain_all_linear_layers_but_those_of_embeddings_and_head(kind):
    """No matrix of a layer is missing from the table."""
    model = classifier(kind)
    table = parts.of(model)
    for layer in parts.encoder_layers(model):
        described = {m.path for u in (table.heads, table.neurons) for m in parts.makers(layer, u)}
        described |= {table.heads.reader, table.neurons.reader}
        actual = {name for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
        assert actual == described


def test_the_outputs_of_a_thin_layer_and_of_one_with_an_adapter():
    thin = nn.Module()
    thin.down, thin.up = nn.Linear(16, 2), nn.Linear(2, 12)
    assert parts.out_features(thin) == 12
    adapted = nn.Module()
    adapted.base_layer = nn.Linear(16, 7)
    assert parts.out_features(adapted) == 7


def test_an_unknown_family_is_named_with_those_that_are_described():
    model = SimpleNamespace(config=SimpleNamespace(model_type="mamba"))
    with pytest.raises(ModelError, match=r"'mamba'.*described are: bert, roberta"):
        parts.of(model)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_layer": 7, "n_embd": 5}, (7, 5)),
        ({"num_layers": 4, "d_model": 6}, (4, 6)),
        ({"n_layers": None, "dim": "x"}, (None, None)),
    ],
)
def test_depth_and_width_under_other_names(config, expected):
    assert (parts.depth(config), parts.width(config)) == expected
    as_object = SimpleNamespace(**config)
    assert (parts.depth(as_object), parts.width(as_object)) == expected


def test_heads_and_layers_that_must_stay_are_refused_with_the_reason():
    with pytest.raises(ModelError, match="in deberta, talking heads read each other's scores"):
        parts.check_heads({"model_type": "deberta", "talking_head": True})
    parts.check_heads({"model_type": "mpnet"})
    parts.check_heads({"model_type": "deberta"})
    parts.check_layers({"model_type": "bert"}, [1])
    parts.check_layers({"model_type": "modernbert"}, [0, 2])
    with pytest.raises(ModelError, match=r"in modernbert, .* so layer 0 must be kept"):
        parts.check_layers({"model_type": "modernbert"}, [1, 2])


def test_projections_of_positions_are_those_that_no_text_reaches():
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    names = ["pos_key_proj", "pos_query_proj"]
    model = classifier("deberta-v2", **relative)
    assert parts.position_projections(model) == [
        f"deberta.encoder.layer.{layer}.attention.self.{name}"
        for layer in range(3)
        for name in names
    ]
    assert (
        parts.position_projections(classifier("deberta-v2", **relative, share_att_key=True)) == []
    )
    assert parts.position_projections(classifier("bert")) == []
    other = SimpleNamespace(config=SimpleNamespace(model_type="mamba"))
    assert parts.position_projections(other) == []


@pytest.mark.parametrize(("kind", "runs"), [("bert", True), ("deberta", False), ("albert", True)])
def test_bfloat16_is_known_not_to_work(kind, runs):
    import torch

    further = {"relative_attention": True, "pos_att_type": ["p2c"]} if kind == "deberta" else {}
    model = classifier(kind, **further).eval()
    assert parts.runs_in_bf16(model) == runs
    with torch.autocast("cpu", torch.bfloat16):
        try:
            model(input_ids=torch.tensor([[1, 2, 3]]))
        except RuntimeError:
            assert not runs  # or transformers has mended it: then the table may say so
        else:
            assert runs
