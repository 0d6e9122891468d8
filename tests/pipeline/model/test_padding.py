"""A tokenizer without a padding token: use the config's, or raise an error with the remedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rarefy.pipeline.model import checkpoint, padding
from rarefy.pipeline.terms.errors import ModelError


@pytest.fixture
def change(tmp_path: Path, tiny_model: Path) -> Any:
    """Return a factory of models whose tokenizer has no padding token."""

    def make(special: bool = True, **config: Any) -> Path:
        directory = tmp_path / "unpadded"
        shutil.copytree(tiny_model, directory)
        edit(directory / "tokenizer_config.json", lambda values: values.pop("pad_token"))
        edit(directory / "config.json", lambda values: values.update(config))
        if not special:
            edit(directory / "tokenizer.json", lambda values: values.update(added_tokens=[]))
        (directory / "special_tokens_map.json").unlink(missing_ok=True)
        return directory

    return make


def edit(path: Path, by: Any) -> None:
    values = json.loads(path.read_text())
    by(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("special", [True, False])
def test_the_token_that_the_config_names_pads(change, special):
    tokenizer = checkpoint.load_tokenizer(change(special, pad_token_id=0))
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("[PAD]", 0)
    batch = tokenizer(["the film", "the very clever film"], padding=True)["input_ids"]
    assert batch[0][len(batch[0]) - 2 :] == [0, 0]


@pytest.mark.parametrize("named", [None, 7, 10_000])
def test_no_token_or_a_word_of_the_language_is_refused_with_the_remedy(change, named):
    """Token 7 is a word: if it were the padding, texts would lose it."""
    with pytest.raises(ModelError, match=r'no padding token.*"pad_token" to the model\'s') as said:
        checkpoint.load_tokenizer(change(pad_token_id=named))
    assert "\n" not in str(said.value)


def test_it_is_said_when_the_model_is_imported(workshop, change):
    model = change(pad_token_id=None)
    with pytest.raises(ModelError, match=r"^model: the tokenizer has no padding token"):
        workshop.run("quick:Head", model=str(model))


def test_a_model_that_its_config_mends_trains(workshop, change):
    finished = workshop.run({"finetune": {"epochs": 1}}, model=str(change(pad_token_id=0)))
    assert finished["finetune"].scores[0].n == 12


@pytest.mark.parametrize(
    ("kind", "own", "noted"),
    [
        ("llama", None, 3),
        ("llama", 0, 3),
        ("llama", -1, 3),
        ("roberta", 1, 1),
        ("roberta", None, 3),
    ],
)
def test_a_config_has_the_tokenizer_s_padding_token_unless_positions_start_from_its_own(
    kind, own, noted
):
    config = SimpleNamespace(model_type=kind, pad_token_id=own)
    padding.note(config, SimpleNamespace(pad_token_id=3))
    assert config.pad_token_id == noted


def test_a_decoder_answers_a_padded_row_as_alone(workshop, tmp_path, tiny_model):
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    shutil.copytree(tiny_model, tmp_path / "decoder")
    (tmp_path / "decoder" / "model.safetensors").unlink()
    size = len(checkpoint.load_tokenizer(tiny_model))
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=7,  # not the tokenizer's
        id2label={0: "negative", 1: "positive"},
    )
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "decoder")
    run = workshop.open("quantize", model=str(tmp_path / "decoder"))
    run.plan.steps()
    imported = run.execute("model").artifact
    network = checkpoint.load(imported.directory)
    tokenizer = checkpoint.load_tokenizer(imported.directory)
    with torch.no_grad():
        alone = network(**tokenizer(["the film"], return_tensors="pt")).logits[0]
        texts = ["the film", "the very clever film the very clever film"]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        together = network(**batch).logits[0]
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=0)
