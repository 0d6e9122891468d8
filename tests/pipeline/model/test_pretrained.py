"""Models saved by others: usable weights are loaded and reported, essential ones required."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rarefy.pipeline.model import checkpoint, pretrained, safe_loading
from rarefy.pipeline.model.pretrained import Pretrained
from rarefy.pipeline.terms.errors import IntegrityError, ModelError
from tests.breadth import broad
from tests.families import FAMILIES, write_family
from tests.models import KINDS, LABELS, configure, rename_weights, write_model

MASKED = {
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "electra": "ElectraForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
    "mpnet": "MPNetForMaskedLM",
}


def load(directory: Path, **options: Any) -> Pretrained:
    return pretrained.load(directory, safe_loading.weight_files(directory), **options)


def same(network: Any, found: Pretrained, but: str = "nothing") -> bool:
    """Return True if all weights of the body were loaded unchanged."""
    was, brought = (model.base_model.state_dict() for model in (network, found.model))
    names = [name for name in was if not name.startswith(but)]
    return bool(names) and all(torch.equal(was[name], brought[name]) for name in names)


def unchanged(found: Pretrained) -> bool:
    return (found.left_out, found.new) == ((), ())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("named", [True, False])
def test_a_body_under_a_config_that_names_another_class_or_none(tmp_path, kind, prefixed, named):
    """sentence-transformers saves a body without prefix, and the config it started from."""
    network = write_model(tmp_path, kind)
    if named:
        configure(tmp_path, architectures=[MASKED[kind]])
    else:
        configure(tmp_path, drop="architectures")
    if prefixed:
        rename_weights(tmp_path, lambda name: f"{kind}.{name}")
    found = load(tmp_path)
    assert type(found.model) is type(network)
    assert same(network, found)
    assert unchanged(found)
    checkpoint.save(found.model, checkpoint.load_tokenizer(tmp_path), tmp_path / "ours")
    assert same(network, Pretrained(checkpoint.load(tmp_path / "ours")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("auto", ["AutoModelForMaskedLM", "AutoModelForPreTraining"])
def test_a_head_that_pretraining_left_is_kept(tmp_path, kind, auto):
    network = write_model(tmp_path, kind, auto)
    configure(tmp_path, drop="architectures")
    found = load(tmp_path)
    assert type(found.model) is type(network)
    ids = torch.tensor([[2, 8, 9, 20, 3]])
    with torch.no_grad():
        torch.testing.assert_close(found.model(input_ids=ids)[0], network(input_ids=ids)[0])
    assert unchanged(found)


def test_all_heads_are_kept_though_the_config_names_one(tmp_path):
    """As bert-base-uncased is published: masked-language and next-sentence heads, a pooler."""
    network = write_model(tmp_path, "bert", "AutoModelForPreTraining")
    configure(tmp_path, architectures=["BertForMaskedLM"])
    found = load(tmp_path)
    assert type(found.model) is type(network)
    assert same(network, found)
    assert unchanged(found)


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_the_names_that_layer_norms_once_had(tmp_path, kind):
    network = write_model(tmp_path, kind, "AutoModelForMaskedLM")
    rename_weights(
        tmp_path,
        lambda name: name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"),
    )
    found = load(tmp_path)
    assert type(found.model) is type(network)
    assert same(network, found)
    assert unchanged(found)


@pytest.mark.parametrize(
    ("kind", "dropped", "left_out"),
    [
        ("bert", "cls.predictions", ("cls.seq_relationship",)),
        ("roberta", "lm_head.bias", ("lm_head.dense", "lm_head.layer_norm")),
        ("distilbert", "vocab_transform", ("vocab_layer_norm", "vocab_projector")),
        ("mpnet", "lm_head.dense", ("lm_head",)),
    ],
)
def test_a_head_that_is_not_whole_is_left_out(tmp_path, kind, dropped, left_out):
    network = write_model(tmp_path, kind, "AutoModelForPreTraining")
    rename_weights(tmp_path, lambda name: "" if name.startswith(dropped) else name)
    found = load(tmp_path)
    assert found.model.base_model is found.model
    assert same(network, found)
    assert found.left_out == left_out


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet"])
def test_a_missing_pooler_is_made_anew_the_same_each_time(tmp_path, kind):
    network = write_model(tmp_path, kind)
    rename_weights(tmp_path, lambda name: "" if name.startswith("pooler") else name)
    torch.manual_seed(1)
    first = load(tmp_path)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1)), "the caller's random numbers are left alone"
    assert same(network, first, but="pooler")
    assert (first.left_out, first.new) == ((), ("pooler.dense",))
    weight = first.model.pooler.dense.weight.detach()
    assert 0.01 < float(weight.std()) < 0.03
    assert torch.equal(weight, load(tmp_path).model.pooler.dense.weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "part", [r"layer\.1\.", "word_embeddings", r"(LayerNorm|layer_norm)\.bias"]
)
@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForMaskedLM"])
def test_a_weight_that_matters_is_missing(tmp_path, kind, part, auto):
    write_model(tmp_path, kind, auto)
    rename_weights(tmp_path, lambda name: "" if re.search(part, name) else name)
    with pytest.raises(ModelError, match=f"missing weight \\S*{part}") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_layers_beyond_the_config_s_are_not_left_out_in_silence(tmp_path, kind):
    write_model(tmp_path, kind)
    configure(tmp_path, **{"n_layers" if kind == "distilbert" else "num_hidden_layers": 1})
    with pytest.raises(ModelError, match=r"has no weight named \S*layer\.1\."):
        load(tmp_path)


def test_a_shape_that_the_config_does_not_give(tmp_path):
    write_model(tmp_path, "mpnet", "AutoModelForMaskedLM")
    configure(tmp_path, intermediate_size=24)
    with pytest.raises(ModelError, match=r"layer\.\S+ has shape \[\S+ ?\S*\], expected \["):
        load(tmp_path)


def test_an_activation_that_transformers_does_not_have(tmp_path):
    write_model(tmp_path, "bert", "AutoModelForMaskedLM")
    configure(tmp_path, hidden_act="__import__")
    with pytest.raises(ModelError, match="transformers cannot build it: KeyError: '__import__'"):
        load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_whose_answers_are_used_must_be_complete(tmp_path, kind):
    network = write_model(tmp_path, kind, "AutoModelForSequenceClassification", LABELS)
    found = load(tmp_path, complete=True)
    assert type(found.model) is type(network)
    assert [found.model.config.id2label[at] for at in (0, 1)] == list(LABELS)
    ids = torch.tensor([[2, 8, 9, 20, 3]])
    with torch.no_grad():
        torch.testing.assert_close(found.model(input_ids=ids)[0], network(input_ids=ids)[0])
    rename_weights(tmp_path, lambda name: "" if name.startswith("classifier") else name)
    with pytest.raises(ModelError, match=r"missing weight classifier\."):
        load(tmp_path, complete=True)


def test_bert_s_pooler_matters_to_its_classifier(tmp_path):
    write_model(tmp_path, "bert", "AutoModelForSequenceClassification", LABELS)
    rename_weights(tmp_path, lambda name: "" if "pooler" in name else name)
    with pytest.raises(ModelError, match=r"missing weight bert\.pooler"):
        load(tmp_path, complete=True)


def test_half_precision_becomes_single(tmp_path):
    from safetensors.torch import load_file, save_file

    network = write_model(tmp_path, "bert")
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    configure(tmp_path, dtype="float16")
    brought = load(tmp_path).model.state_dict()
    assert {tensor.dtype for tensor in brought.values()} == {torch.float32}
    torch.testing.assert_close(brought, network.state_dict(), atol=1e-3, rtol=1e-3)


def test_weights_of_single_precision_stay_so_whatever_the_config_says(tmp_path):
    network = write_model(tmp_path, "bert")
    configure(tmp_path, dtype="float16")
    assert same(network, load(tmp_path))


def test_shards_as_transformers_writes_them(tmp_path):
    network = write_model(tmp_path, "mpnet")
    (tmp_path / "model.safetensors").unlink()
    network.save_pretrained(tmp_path, max_shard_size="5KB")
    configure(tmp_path, architectures=["MPNetForMaskedLM"])
    assert len(safe_loading.weight_files(tmp_path)) > 1
    found = load(tmp_path)
    assert same(network, found)
    assert unchanged(found)


def test_shards_of_an_older_upload_are_not_read(tmp_path):
    """They stay in a folder or repository if the number of shards changes."""
    network = write_model(tmp_path, "bert")
    network.save_pretrained(tmp_path / "old", max_shard_size="3KB")
    (tmp_path / "model.safetensors").unlink()
    network.embeddings.word_embeddings.weight.data.add_(1)
    network.save_pretrained(tmp_path, max_shard_size="5KB")
    named = safe_loading.weight_files(tmp_path)
    for shard in (tmp_path / "old").glob("*.safetensors"):
        shutil.copy(shard, tmp_path)
    assert safe_loading.weight_files(tmp_path) == named
    assert same(network, load(tmp_path))
    index = tmp_path / "model.safetensors.index.json"
    kept = index.read_text()
    index.unlink()
    with pytest.raises(ModelError, match=r"are not those of one model, e\.g\. model-00001"):
        safe_loading.weight_files(tmp_path)
    index.write_text(kept)
    named[1].unlink()
    said = f"{named[1].name} is missing, one of {len(named)} in model.safetensors.index.json"
    with pytest.raises(ModelError, match=said):
        safe_loading.weight_files(tmp_path)
    pickled = '{"weight_map": {"a": "pytorch_model.bin"}}'
    for text in ("{", "{}", '{"weight_map": {"a": "../model.safetensors"}}', pickled):
        index.write_text(text)
        with pytest.raises(ModelError, match=r"^model\.safetensors\.index\.json: "):
            safe_loading.weight_files(tmp_path)


def test_a_table_that_only_mdeberta_s_training_knew_is_left_out(tmp_path):
    network = write_model(tmp_path, "deberta-v2")
    state = network.state_dict()
    name = "embeddings.word_embeddings"
    more = state | {f"{name}._weight": torch.zeros(3, 3)}
    save_file(more, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = load(tmp_path)
    assert same(network, found)
    assert found.left_out == (name,)
    save_file(state | {"embeddings.other._weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"no weight named embeddings\.other\._weight"):
        load(tmp_path)


def test_pickled_weights_are_taken_only_if_that_is_allowed(tmp_path):
    network = write_model(tmp_path, "bert")
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="is a pickle file, which can run code"):
        safe_loading.weight_files(tmp_path)
    weights = safe_loading.weight_files(tmp_path, allow_pickle=True)
    assert same(network, pretrained.load(tmp_path, weights))


def test_pickles_beside_whole_safetensors_are_not_looked_at(tmp_path):
    """A download leaves them out, but not their index; exports may leave shards of two behind."""
    network = write_model(tmp_path, "bert")
    weights = safe_loading.weight_files(tmp_path)
    index = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert safe_loading.weight_files(tmp_path) == weights
    (tmp_path / "pytorch_model.bin.index.json").unlink()
    for of in (2, 3):
        (tmp_path / f"pytorch_model-00001-of-0000{of}.bin").write_bytes(b"")
    assert safe_loading.weight_files(tmp_path) == weights
    assert same(network, load(tmp_path))


@pytest.mark.parametrize(
    "asked",
    [{"output_attentions": True}, {"output_hidden_states": True}, {"return_dict": False}],
    ids=str,
)
def test_a_model_returns_its_logits_whatever_the_config_asks_for(tmp_path, asked):
    network = write_model(tmp_path, "bert", "AutoModelForSequenceClassification", LABELS)
    ids = torch.tensor([[2, 8, 9, 20, 3]])
    with torch.no_grad():
        expected = network(input_ids=ids).logits
    configure(tmp_path, **asked)
    found = load(tmp_path, complete=True)
    checkpoint.save(found.model, checkpoint.load_tokenizer(tmp_path), tmp_path / "ours")
    with torch.no_grad():
        outputs = checkpoint.load(tmp_path / "ours")(input_ids=ids)
    torch.testing.assert_close(outputs.logits, expected)
    assert list(outputs) == ["logits"]


def test_transformers_own_words_stay_as_they_were(tmp_path, capsys):
    from transformers.utils import logging

    write_model(tmp_path, "mpnet")
    configure(tmp_path, architectures=["MPNetForMaskedLM"])
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capsys.readouterr()
    load(tmp_path)
    assert capsys.readouterr().err == ""
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


LANGUAGE = {"llama": "AutoModelForCausalLM", "qwen3": "AutoModelForCausalLM"}
OTHER_HEADS = ("language", "AutoModelForTokenClassification", "AutoModelForSequenceClassification")


@pytest.mark.parametrize("family", broad(FAMILIES, "bert", "deberta-v3", "llama"))
@pytest.mark.parametrize("head", OTHER_HEADS)
def test_every_family_is_loaded_with_any_head_from_one_file_or_shards(tmp_path, family, head):
    if head == "language":
        head = LANGUAGE.get(family, "AutoModelForMaskedLM")
    network = write_family(tmp_path / "model", family, head, layers=2)
    found = load(tmp_path / "model")
    assert type(found.model) is type(network)
    assert same(network, found)
    assert unchanged(found)
    network.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    configure(tmp_path / "shards", drop="architectures")
    assert len(safe_loading.weight_files(tmp_path / "shards")) > 1
    assert same(network, load(tmp_path / "shards"))
    tokenizer = checkpoint.load_tokenizer(tmp_path / "model")
    checkpoint.save(found.model, tokenizer, tmp_path / "ours")
    again = checkpoint.load(tmp_path / "ours")
    assert same(network, Pretrained(again))
    told = checkpoint.describe(again)
    assert (told["layers"], told["hidden"]) == (2, 32)
    assert told["heads"] == ([] if family in UNDESCRIBED else [4, 4])


UNDESCRIBED = ("albert", "llama", "qwen3")
