"""The form of the Hugging Face Hub, which transformers.js, sentence-transformers, fastembed load.

What they expect was read in transformers.js 4.3, sentence-transformers 5.7 with optimum-onnx 0.1
and fastembed 0.9, and is tested with them (`make test-consumers`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from exporters.bundle import write_json
from exporters.forms import graph, hub_card, sentences
from exporters.forms.hub_card import Stated
from exporters.forms.source import Source, check_anywhere
from pipeline.release.provenance import Provenance
from pipeline.stage.tasks.sentence_embeddings import SENTENCE_EMBEDDINGS

SUFFIX = {"fp32": "", "int8": "_quantized", "fp16": "_fp16"}
"""What transformers.js puts after ``model`` in the name of a graph whose weights are so."""
DTYPE = {"fp32": "fp32", "int8": "q8", "fp16": "fp16"}
"""What transformers.js calls the weights."""
GENERIC = "PreTrainedTokenizerFast"
"""A tokenizer that does what tokenizer.json says."""


def write(
    source: Source,
    folder: Path,
    provenance: Provenance,
    stated: Stated,
    repository: str = hub_card.REPOSITORY,
) -> None:
    """Write the files of a repository on the Hub; ``repository``: its name, for the card.

    Raises ModelError if the bundle is for CPUs with VNNI or its graph does not give what the tools
    need.
    """
    check_anywhere(source, "hub")
    embeds = source.task == SENTENCE_EMBEDDINGS.name
    name = f"model{SUFFIX[source.precision]}.onnx"
    (folder / "onnx").mkdir()
    graph.copy(source, folder / "onnx" / name, weights=f"{name}_data", hidden=embeds)
    apart = (folder / "onnx" / f"{name}_data").exists()
    write_json(folder / "config.json", _config(source, [name] if apart else []))
    shutil.copyfile(source.folder / "tokenizer.json", folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", tokenizer_config(source))
    special = {key: token for key, token in source.tokenizer.items() if key.endswith("_token")}
    write_json(folder / "special_tokens_map.json", special)
    if embeds:
        sentences.write(source, folder)
    hub_card.write(source, folder, name, provenance, stated, repository)


def _config(source: Source, apart: list[str]) -> dict[str, Any]:
    """Return config.json; ``apart``: the graphs whose weights are in a file of their own."""
    own: dict[str, Any] = {"dtype": DTYPE[source.precision]}
    if apart:
        own["use_external_data_format"] = dict.fromkeys(apart, 1)
    kept = {key: value for key, value in source.config.items() if value is not None and value != {}}
    if source.task == "regression":  # without names, what loads it assumes two labels
        kept |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return kept | {"transformers.js_config": own}


def tokenizer_config(source: Source) -> dict[str, Any]:
    """Return tokenizer_config.json, which says what transformers would otherwise assume.

    Version 4 sets tokenizer.json's own normalizer and prefix to its defaults if they are not named.
    """
    stored = json.loads((source.folder / "tokenizer.json").read_text(encoding="utf-8"))
    normalizer, before = stored.get("normalizer") or {}, stored.get("pre_tokenizer") or {}
    found = dict(source.tokenizer)
    if side := source.signature.get("truncation_side"):
        found["truncation_side"] = side
    if found.get("tokenizer_class") == "TokenizersBackend":  # the name of version 5
        found["tokenizer_class"] = GENERIC
    if normalizer.get("type") == "BertNormalizer":
        found["do_lower_case"] = normalizer["lowercase"]
        found["strip_accents"] = normalizer["strip_accents"]
        found["tokenize_chinese_chars"] = normalizer["handle_chinese_chars"]
    if before.get("type") == "ByteLevel":
        found["add_prefix_space"] = before["add_prefix_space"]
    return found
