"""A model's sizes, read from its files, match the model that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from pipeline.model import checkpoint, shape
from tests.exporters.conftest import tiny

SIZES = {"layers": 2, "hidden": 32, "heads": 4, "intermediate": 64, "vocabulary": 100}


@pytest.mark.parametrize("name", ["Bert", "Roberta", "Electra", "DistilBert", "MPNet"])
def test_files_tell_what_the_model_has(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    model.save_pretrained(tmp_path)
    found = shape.of_directory(tmp_path, tuple(tmp_path.iterdir()))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert found == shape.Shape(parameters=count, **SIZES)
    assert shape.of_manifest(checkpoint.describe(model)) == found


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
