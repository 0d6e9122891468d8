"""The form of the Hugging Face Hub, which transformers.js, sentence-transformers, fastembed load.

What they expect was read in transformers.js 4.3, sentence-transformers 5.7 with optimum-onnx 0.1
and fastembed 0.9, and is tested with them (`make test-consumers`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from rarefy.exporters.bundle.files import write_json
from rarefy.exporters.forms import graph, hub_card
from rarefy.exporters.forms.hub_card import Stated
from rarefy.exporters.forms.source import Source, check_anywhere
from rarefy.pipeline.model import pooling
from rarefy.pipeline.model.pooling import Pooling
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.verdict.provenance import Provenance

SUFFIX = {"fp32": "", "int8": "_quantized", "fp16": "_fp16"}
"""What transformers.js puts after ``model`` in the name of a graph whose weights are so."""
DTYPE = {"fp32": "fp32", "int8": "q8", "fp16": "fp16"}
"""What transformers.js calls the weights."""
FLAGS = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
"""Our name of a pooling -> what sentence-transformers writes after ``pooling_mode_``."""
OTHERS = ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
GENERIC = "PreTrainedTokenizerFast"
"""A tokenizer that does what tokenizer.json says."""


def write(source: Source, folder: Path, provenance: Provenance, stated: Stated) -> None:
    """Write the files of a repository on the Hub.

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
        write_modules(source, folder)
    hub_card.write(source, folder, name, provenance, stated)


def _config(source: Source, apart: list[str]) -> dict[str, Any]:
    """Return config.json; ``apart``: the graphs whose weights are in a file of their own."""
    settings: dict[str, Any] = {"dtype": DTYPE[source.precision]}
    if apart:
        settings["use_external_data_format"] = dict.fromkeys(apart, 1)
    config = {key: value for key, value in source.config.items() if value not in (None, {})}
    if source.task == "regression":  # without names, what loads it assumes two labels
        config["id2label"] = {"0": "LABEL_0"}
        config["label2id"] = {"LABEL_0": 0}
    config["transformers.js_config"] = settings
    return config


def tokenizer_config(source: Source) -> dict[str, Any]:
    """Return tokenizer_config.json, which says what transformers would otherwise assume.

    Version 4 sets tokenizer.json's own normalizer and prefix to its defaults if they are not named.
    """
    stored = json.loads((source.folder / "tokenizer.json").read_text(encoding="utf-8"))
    normalizer = stored.get("normalizer") or {}
    before = stored.get("pre_tokenizer") or {}
    config = dict(source.tokenizer)
    side = source.signature.get("truncation_side")
    if side:
        config["truncation_side"] = side
    if config.get("tokenizer_class") == "TokenizersBackend":  # the name of version 5
        config["tokenizer_class"] = GENERIC
    if normalizer.get("type") == "BertNormalizer":
        config["do_lower_case"] = normalizer["lowercase"]
        config["strip_accents"] = normalizer["strip_accents"]
        config["tokenize_chinese_chars"] = normalizer["handle_chinese_chars"]
    if before.get("type") == "ByteLevel":
        config["add_prefix_space"] = before["add_prefix_space"]
    return config


def write_modules(source: Source, folder: Path) -> None:
    """Write modules.json and the files that it leads to, by which sentence-transformers pools."""
    how = pooling.of_config(source.config.get(pooling.KEY))
    kinds = ["Transformer", "Pooling"]
    if how.normalize:
        kinds.append("Normalize")
    modules = []
    for at, kind in enumerate(kinds):
        path = f"{at}_{kind}" if at > 0 else ""
        name = f"sentence_transformers.models.{kind}"
        modules.append({"idx": at, "name": str(at), "path": path, "type": name})
    write_json(folder / "modules.json", modules)
    settings: dict[str, Any] = {
        "__version__": {},
        "model_type": "SentenceTransformer",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    write_json(folder / "config_sentence_transformers.json", settings)
    lengths = {"max_seq_length": source.max_length, "do_lower_case": False}
    write_json(folder / pooling.SENTENCES, lengths)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", _pooling(how, source))


def _pooling(how: Pooling, source: Source) -> dict[str, Any]:
    """Return the config of sentence-transformers' module for pooling."""
    config: dict[str, Any] = {"word_embedding_dimension": int(source.output["shape"][-1])}
    for name in (*FLAGS.values(), *OTHERS):
        config[f"pooling_mode_{name}"] = FLAGS[how.mode] == name
    config["include_prompt"] = True
    return config
