"""Adapters train while the base stays frozen, whatever its shapes; the result can be loaded."""

from __future__ import annotations

import json

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.stages.adapt import Adapt
from rarefy.stages.adapt import stage as adapt
from rarefy.stages.training import loop as trainer
from tests.models import artifact_of, dropout_rates, sentences
from tests.stages.classifiers import classifier

LEARNS = {"rank": 4, "learning_rate": 4e-3, "epochs": 3, "batch_size": 16}
"""With which an adapter learns, of 512 sentences, some 85 % of new ones or more; half is chance."""


def accuracy(directory) -> float:
    network, tokenizer = checkpoint.load(directory), checkpoint.load_tokenizer(directory)
    texts, labels = sentences(100, seed=9)
    with torch.no_grad():
        answers = network(**tokenizer(texts, padding=True, return_tensors="pt")).logits.argmax(-1)
    return (answers == torch.tensor(labels)).float().mean().item()


def factorize_by_hand(artifact, directory):
    """Factorize two layers and prune the neurons of another, as other stages do."""
    from torch import nn

    network, tokenizer = checkpoint.load(artifact.directory), None
    tokenizer = checkpoint.load_tokenizer(artifact.directory)
    layer = network.bert.encoder.layer[1]
    layer.intermediate.dense = checkpoint.factorized(32, 4, 64, bias=True)
    layer.attention.output.dense = checkpoint.factorized(32, 4, 32, bias=True)
    pruned = network.bert.encoder.layer[2]
    pruned.intermediate.dense, pruned.output.dense = nn.Linear(32, 24), nn.Linear(24, 32)
    checkpoint.save(network, tokenizer, directory)
    return artifact_of(directory, Kind.CHECKPOINT)


@pytest.mark.slow
def test_an_adapter_learns_and_the_base_stays_as_it_was(base, make_context):
    context = make_context(rows=512)
    draft = Adapt(**LEARNS).run(context, base)
    assert accuracy(context.output) >= 0.75
    for entry in base.manifest.files:
        assert file_sha256(context.output / entry.path) == entry.sha256
    assert draft.roles["adapter/adapter_model.safetensors"] == "adapter"
    assert set(draft.roles) == {
        path.relative_to(context.output).as_posix()
        for path in context.output.rglob("*")
        if path.is_file()
    }
    assert draft.model["adapter"]["trainable"] < draft.model["parameters"] / 2


@pytest.mark.slow
def test_a_body_without_a_head_gets_one_that_is_trained(tiny_encoder, make_context):
    context = make_context(rows=512)
    Adapt(**LEARNS).run(context, tiny_encoder)
    assert accuracy(context.output) >= 0.75


@pytest.mark.slow
def test_pruned_and_factorized_models_take_adapters(base, make_context, tmp_path):
    odd = factorize_by_hand(base, tmp_path / "odd")
    context = make_context(rows=512)
    draft = Adapt(**LEARNS).run(context, odd)
    # 3 layers × 6 linear layers, two of which are now pairs.
    assert draft.model["adapter"]["layers"] == 20
    assert accuracy(context.output) >= 0.75


def test_attention_alone_can_be_targeted(base):
    network = checkpoint.load(base.directory)
    names = adapt.adapted_layers(network, "attention")
    assert len(names) == 12
    assert all(".attention." in name for name in names)
    assert adapt.head_modules(network) == ["classifier", "bert.pooler"]


def test_the_adapter_is_the_same_twice_and_names_no_folder(base, make_context, tmp_path):
    digests = []
    for run in ("one", "two"):
        context = make_context(rows=16, work=tmp_path / run)
        Adapt(epochs=1).run(context, base)
        folder = context.output / "adapter"
        assert sorted(path.name for path in folder.iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
        text = (folder / "adapter_config.json").read_text()
        assert str(tmp_path) not in text
        assert json.loads(text)["base_model_name_or_path"] is None
        digests.append([file_sha256(path) for path in sorted(folder.iterdir())])
    assert digests[0] == digests[1]


def test_a_teacher_is_learned_from_without_dropout_but_of_the_adapters(base, tuned, make_context):
    context = make_context(rows=8, artifacts={"big": tuned})
    with dropout_rates() as rates:
        Adapt(rank=2, epochs=1, dropout=0.25, teacher="big").run(context, base)
    assert rates == {0, 0.25}


@pytest.mark.slow
def test_a_teacher_is_learned_from(base, tuned, make_context):
    context = make_context(rows=512, artifacts={"big": tuned})
    stage = Adapt(**LEARNS, teacher="big")
    assert stage.references() == {"teacher": "big"}
    stage.run(context, base)
    assert accuracy(context.output) >= 0.75


@pytest.mark.slow
def test_an_interrupted_adapter_goes_on_to_the_same_weights(
    base, make_context, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainer, "pause", lambda *_: 0.0)
    stage = Adapt(rank=2, learning_rate=5e-3, epochs=2, batch_size=8)
    whole = make_context(rows=64, work=tmp_path / "whole")
    stage.run(whole, base)

    def stop(done, total, note):
        if done == 11:
            raise KeyboardInterrupt

    work, seen = tmp_path / "stopped", []
    with pytest.raises(KeyboardInterrupt):
        stage.run(make_context(rows=64, work=work, progress=stop), base)
    resumed = make_context(rows=64, work=work, progress=lambda done, total, note: seen.append(done))
    stage.run(resumed, base)
    assert seen == list(range(11, 17))
    name = "adapter/adapter_model.safetensors"
    assert file_sha256(whole.output / name) == file_sha256(resumed.output / name)


@pytest.mark.parametrize(
    ("kind", "attention", "others"),
    [
        ("bert", 4, 2),
        ("distilbert", 4, 2),
        ("mpnet", 4, 2),
        ("modernbert", 2, 2),
        ("deberta", 4, 2),
        ("deberta-v3", 4, 2),
    ],
)
def test_the_linear_layers_of_attention_and_of_the_rest_are_found_in_every_family(
    kind, attention, others
):
    model = classifier(kind, "eager")
    found = adapt.adapted_layers(model, "attention")
    assert len(found) == 3 * attention
    assert all("ffn" not in name and "mlp" not in name for name in found)
    assert len(adapt.adapted_layers(model, "all-linear")) == 3 * (attention + others)


def test_all_linear_layers_but_pooler_and_head_get_an_adapter_in_a_family_that_is_not_described():
    model = classifier("albert", "eager", embedding_size=16)
    found = adapt.adapted_layers(model, "all-linear")
    assert len(found) == 1 + 6  # the projection of the embeddings, and one layer that all share
    assert not any("pooler" in name or "classifier" in name for name in found)
