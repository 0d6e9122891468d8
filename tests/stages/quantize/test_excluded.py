"""Names of layers that stay float: those typed wrong are refused before anything is trained."""

from __future__ import annotations

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.architectures.families import ARCHITECTURES
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.stages.quantize import excluded
from tests.models import write_model

BERT = {"model_type": "bert", "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("bert.encoder.layr.0.attention.self.query", "bert.encoder.layer.0.attention.self.query"),
        ("bert.encoder.layer.1.attention.self.qurey", "bert.encoder.layer.1.attention.self.query"),
        ("encoder.layer.1.intermediate.dens", "encoder.layer.1.intermediate.dense"),
        ("bert.encoder.layer.2.output.dense", r"bert.encoder.layer.\d.output.dense"),
    ],
)
def test_a_layer_that_is_typed_wrong_or_beyond_the_last_is_refused(name, near):
    said = f"exclude: no linear layer '{name}' in a bert with 2 layers; did you mean '{near}'"
    with pytest.raises(ModelError, match=said):
        excluded.check([name], BERT)


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.1.output.dense",
        "encoder.layer.1.output.dense",
        "bert.encoder.layer.1.output.dense.down",
        "classifier.dense",
        "head.layers.0.dense",
    ],
)
def test_what_may_be_a_layer_is_not_refused(name):
    excluded.check([name], BERT)


def test_nothing_is_refused_where_layers_are_not_described_or_counted():
    wrong = ["bert.encoder.layr.0.attention.self.query"]
    excluded.check(wrong, {"model_type": "albert", "num_hidden_layers": 2})
    excluded.check(wrong, parts.of_unknown_depth(BERT))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_no_linear_layer_of_a_described_family_is_refused(kind, tmp_path):
    write_model(tmp_path / "model", kind, "AutoModelForSequenceClassification", ("a", "b"))
    network = checkpoint.load(tmp_path / "model")
    names = [name for name, each in network.named_modules() if isinstance(each, torch.nn.Linear)]
    config = network.config.to_dict()
    assert parts.depth(config)
    excluded.check(names, config)
    assert set(excluded.candidates(network, names[:1])[1]) <= set(names[1:])
    assert excluded.candidates(network, names)[1] == []  # the last, which is float anyway, too
    with pytest.raises(RecipeError, match="exclude: no linear layer 'nothing'; the model has "):
        excluded.candidates(network, ["nothing"])


def test_a_recipe_is_refused_with_its_line(workshop):
    stages = ["finetune", {"quantize": {"exclude": ["bert.encoder.layr.0.attention.self.query"]}}]
    with pytest.raises(RecipeError, match=r"trial.yaml:\d+: stages\[1\].quantize: exclude: no lin"):
        workshop.open(*stages).plan.steps()
    cut = {"distill": {"keep_layers": 1}}
    gone = {"quantize": {"exclude": ["bert.encoder.layer.1.attention.self.query"]}}
    workshop.open("finetune", gone).plan.steps()
    with pytest.raises(RecipeError, match="in a bert with 1 layer;"):
        workshop.open("finetune", cut, gone).plan.steps()


def test_a_model_without_linear_layers_is_said_to_have_none(tmp_path, caplog):
    """GPT-2's are transformers' Conv1D, which stay in float."""
    network = write_model(tmp_path, "gpt2", "AutoModelForSequenceClassification", ("a", "b"))
    assert excluded.candidates(network, ()) == ([], [])
    assert "the model has no linear layers but its last, so they stay in float" in caplog.text
    with pytest.raises(
        RecipeError, match=r"no linear layer 'h\.0'; the model has none but the last"
    ):
        excluded.candidates(network, ("h.0",))
