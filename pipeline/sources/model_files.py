"""The names of the files that a published model may consist of."""

from __future__ import annotations

from typing import Final

CONFIG: Final = "config.json"
CARD: Final = "README.md"
WEIGHTS: Final = "model.safetensors"
"""The weights, if they are in one file."""
INDEX: Final = f"{WEIGHTS}.index.json"
"""Which weights are in which shard, if they are not."""
MODULES: Final = "modules.json"
"""Of sentence-transformers: the parts of a model, and the folders of their settings."""
SENTENCES: Final = "sentence_bert_config.json"
PROMPTS: Final = "config_sentence_transformers.json"
TOKENIZER: Final = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)
SIDECARS: Final = ("shapes.json",)
