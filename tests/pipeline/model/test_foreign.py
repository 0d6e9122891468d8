"""What a model's folder says is checked before anything is built of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.model import safe_loading
from rarefy.pipeline.model.runtime.bundle_files import check_tokenizer
from rarefy.pipeline.terms import bounds
from rarefy.pipeline.terms.errors import IntegrityError, ModelError

CONFIG = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100}
WRONG: dict[str, Any] = {
    "id2label": [["a", "b"], {"x": "a"}, {"0": None}, {"0": ["a"]}, 5],
    "label2id": [["a", "b"], {"a": "x"}],
    "num_labels": [bounds.LABELS + 1, -1, "many", 0.5],
    "num_hidden_layers": [bounds.LAYERS + 1, -1, [2], 1e308],
    "hidden_size": [bounds.WIDTH + 1, "wide", {}],
    "vocab_size": [bounds.TOKENS + 1, 10**30],
    "max_position_embeddings": [bounds.TOKENS + 1, "x"],
    "architectures": ["BertModel", [1], {"0": "x"}],
    "model_type": [["bert"], 5, {}],
    "pad_token_id": ["x", [0]],
}


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("key", WRONG)
def test_a_config_of_another_form_is_refused_in_one_line(tmp_path: Path, key: str) -> None:
    for value in WRONG[key]:
        path = write(tmp_path / "config.json", CONFIG | {key: value})
        with pytest.raises(ModelError, match=key) as raised:
            safe_loading.read_config(path)
        assert "\n" not in str(raised.value)


def test_a_config_keeps_what_it_says(tmp_path: Path) -> None:
    values = CONFIG | {"id2label": {"0": "a", "1": 5}, "more": [None], "pad_token_id": None}
    assert safe_loading.read_config(write(tmp_path / "config.json", values)) == values


def weights(path: Path, header: Any, size: int) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return path


ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
HEADERS: dict[str, Any] = {
    "another shape": {"w": ENTRY | {"shape": [10**9, 10**9]}},
    "a type that is none": {"w": ENTRY | {"dtype": "F7"}},
    "offsets outside": {"w": ENTRY | {"data_offsets": [0, 10**15]}},
    "offsets backwards": {"w": ENTRY | {"data_offsets": [16, 0]}},
    "offsets over each other": {"w": ENTRY, "v": ENTRY},
    "an entry of nothing": {"w": {}},
    "no object": [1],
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_was_edited_is_damage(tmp_path: Path, header: Any) -> None:
    path = weights(tmp_path / "model.safetensors", header, 16)
    with pytest.raises(IntegrityError, match=r"model\.safetensors: not a complete") as raised:
        safe_loading.check_size(CONFIG, [path], pruned=False)
    assert "\n" not in str(raised.value)


def test_a_config_may_not_ask_for_much_more_than_the_weights_hold(tmp_path: Path) -> None:
    path = weights(tmp_path / "model.safetensors", {"w": ENTRY}, 16)
    safe_loading.check_size(CONFIG, [path], pruned=False)
    large = CONFIG | {"hidden_size": 10_000, "num_hidden_layers": 100}
    with pytest.raises(ModelError, match=r"parameters, but the weights hold 4"):
        safe_loading.check_size(large, [path], pruned=False)
    safe_loading.check_size(large, [tmp_path / "pytorch_model.bin"], pruned=False)


def test_a_normalizer_may_not_multiply_texts(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    replace = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 50}
    write(path, {"normalizer": replace})
    check_tokenizer(path)
    write(path, {"normalizer": {"type": "Sequence", "normalizers": [replace] * 3}})
    with pytest.raises(ModelError, match=r"more than 1,000 characters of one"):
        check_tokenizer(path)
