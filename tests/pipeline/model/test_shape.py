"""A model's sizes, read from its files, match the model that transformers loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from pipeline.model import checkpoint, shape
from pipeline.model.static import StaticConfig, StaticForSequenceClassification
from pipeline.model.thin_embedding import ThinEmbedding
from tests.exporters.conftest import tiny

SIZES = {"layers": 2, "hidden": 32, "heads": 4, "intermediate": 64, "vocabulary": 100}


@pytest.mark.parametrize("name", ["Bert", "Roberta", "Electra", "DistilBert", "MPNet"])
def test_files_tell_what_the_model_has(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    model.save_pretrained(tmp_path)
    found = shape.of_directory(tmp_path, tuple(tmp_path.iterdir()))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert found == shape.Shape(parameters=count, **SIZES)
    described = shape.of_manifest(checkpoint.describe(model))
    assert described is not None
    assert replace(described, embeddings=None) == found
    tables = [each for each in model.modules() if isinstance(each, torch.nn.Embedding)]
    assert described.body == count - sum(table.weight.numel() for table in tables)


def test_a_body_is_what_no_table_holds_whatever_form_the_tables_have() -> None:
    """Vocabulary x hidden is more than all the weights of such a model."""
    thin = tiny("Bert")
    whole = shape.of_manifest(checkpoint.describe(thin))
    thin.set_input_embeddings(ThinEmbedding(100, 4, 32))
    bag = StaticForSequenceClassification(StaticConfig(100, 16, buckets=64, intermediate_size=8))
    found, words = (shape.of_manifest(checkpoint.describe(each)) for each in (thin, bag))
    assert whole is not None
    assert found is not None
    assert words is not None
    assert found.body == whole.body + 32 * 4  # from rank to width
    assert words.body == sum(
        each.weight.numel() + each.bias.numel() for each in (bag.dense, bag.classifier)
    )


def test_a_pretraining_head_is_not_counted(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=100, num_hidden_layers=1, hidden_size=32, num_attention_heads=4
    )
    model = transformers.BertForMaskedLM(config)
    model.save_pretrained(tmp_path)
    found = shape.of_directory(tmp_path, tuple(tmp_path.iterdir()))
    assert found is not None
    assert found.parameters == sum(parameter.numel() for parameter in model.bert.parameters())


def test_fewer_layers_have_fewer_parameters() -> None:
    whole = shape.of_manifest(checkpoint.describe(tiny("Bert")))
    model = tiny("Bert")
    model.bert.encoder.layer = torch.nn.ModuleList(model.bert.encoder.layer[:1])
    model.config.num_hidden_layers = 1
    assert whole is not None
    assert whole.with_layers(1) == shape.of_manifest(checkpoint.describe(model))


@pytest.mark.parametrize("config", ["{}", "[]", "no json", None])
def test_what_tells_no_sizes_is_unknown(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert shape.of_directory(tmp_path, ()) is None
    assert shape.of_manifest(json.loads('{"parameters": 3}')) is None


def test_a_pointer_in_place_of_the_weights_is_unknown(tmp_path: Path) -> None:
    """A Git LFS pointer instead of the file: its first bytes are not a length."""
    tiny("Bert").save_pretrained(tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    assert shape.of_directory(tmp_path, tuple(tmp_path.iterdir())) is None


def test_pickled_weights_tell_no_more_than_about_how_many(tmp_path: Path) -> None:
    tiny("Bert").save_pretrained(tmp_path)
    weights = torch.zeros(1000, dtype=torch.float64)
    torch.save({"weight": weights}, tmp_path / "pytorch_model.bin")
    files = (tmp_path / "config.json", tmp_path / "pytorch_model.bin")
    found = shape.of_directory(tmp_path, files)
    assert found is not None
    assert not found.exact
