"""A tiny causal language model, whose texts end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tests.families import write_family


def write_language_model(directory: Path, **config: Any) -> None:
    """Save a random decoder of one layer, with a tokenizer that has an end of texts."""
    write_family(directory, "qwen3", "AutoModelForCausalLM", layers=1, **config)
    end_texts(directory)


def end_texts(directory: Path) -> None:
    """Give a model's tokenizer an end of texts."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.eos_token = tokenizer.sep_token or tokenizer.pad_token
    tokenizer.save_pretrained(directory)
