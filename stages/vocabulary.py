"""Vocabulary pruning: remove tokens from the embeddings that the task's text never uses.

The embeddings are often the largest part of a compact model. Pruning keeps every token that
occurs in the training text, all single characters (so any word can still be spelled), and the
special tokens. WordPiece takes the longest matching token, so text made of kept tokens is still
split into the same tokens.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.terms.errors import ModelError

CHUNK = 1000
"""Texts that are tokenized at once."""


def count_tokens(tokenizer: Any, texts: Iterable[str]) -> Counter[int]:
    """Return how often each token id occurs in the untruncated texts, without special tokens."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    counts: Counter[int] = Counter()
    remaining = iter(texts)
    while chunk := list(islice(remaining, CHUNK)):
        for encoding in backend.encode_batch(chunk, add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def unseen_rate(counts: Counter[int]) -> float:
    """Estimate the share of tokens in new text that do not occur in the counted text.

    The Good-Turing estimate is the share of tokens that were seen exactly once (Good 1953).
    """
    total = sum(counts.values())
    return sum(1 for count in counts.values() if count == 1) / total if total else 1.0


def kept_ids(tokenizer: Any, counts: Counter[int]) -> list[int]:
    """Return the old ids to keep, in rising order; an id's position in the list is its new id.

    Raises ModelError if the tokenizer is not WordPiece, because BPE's merges and Unigram's scores
    would need a different procedure.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = state["model"].get("type")
    if kind != "WordPiece":
        raise ModelError(
            f"prune.vocabulary: the tokenizer is {kind}, but only WordPiece can be pruned"
        )
    prefix = state["model"]["continuing_subword_prefix"]
    letters = {
        index
        for token, index in state["model"]["vocab"].items()
        if len(token.removeprefix(prefix)) == 1
    }
    special = {entry["id"] for entry in state["added_tokens"]}
    return sorted(special | letters | set(counts))


def prune_tokenizer(tokenizer: Any, kept: Sequence[int]) -> Any:
    """Return a tokenizer of the same class with only the ids in ``kept``, renumbered."""
    from pipeline.model import checkpoint

    new = {old: index for index, old in enumerate(kept)}
    with tempfile.TemporaryDirectory(prefix="rarefy-tokenizer-") as directory:
        tokenizer.save_pretrained(directory)
        path = Path(directory) / "tokenizer.json"
        path.write_text(json.dumps(_renumber(json.loads(path.read_text()), new)))
        # vocab.txt would take precedence over tokenizer.json.
        (Path(directory) / "vocab.txt").unlink(missing_ok=True)
        return checkpoint.load_tokenizer(Path(directory))


def _renumber(state: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    """Return tokenizer.json's content with only the ids in ``new``, renumbered."""
    vocabulary = state["model"]["vocab"]
    renumbered = {token: new[index] for token, index in vocabulary.items() if index in new}
    state["model"]["vocab"] = dict(sorted(renumbered.items(), key=lambda entry: entry[1]))
    for entry in state["added_tokens"]:
        entry["id"] = new[entry["id"]]
    _renumber_template(state.get("post_processor"), new)
    return state


def _renumber_template(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Renumber the special tokens that a post-processor adds, which are stored by id."""
    if processor is None:
        return
    for name in ("cls", "sep"):  # BertProcessing, RobertaProcessing: [token, id]
        if name in processor:
            processor[name][1] = new[processor[name][1]]
    for token in (processor.get("special_tokens") or {}).values():  # TemplateProcessing
        token["ids"] = [new[index] for index in token["ids"]]
    for part in processor.get("processors") or []:  # Sequence
        _renumber_template(part, new)


def prune_embeddings(model: Any, kept: Sequence[int]) -> None:
    """Keep only the embeddings of the ids in ``kept``, and renumber the config's token ids."""
    import torch
    from torch import nn

    old = model.get_input_embeddings()
    new = {index: place for place, index in enumerate(kept)}
    embeddings = nn.Embedding(len(kept), old.embedding_dim, new.get(old.padding_idx))
    embeddings.weight = nn.Parameter(old.weight.detach()[torch.tensor(kept)].clone())
    model.set_input_embeddings(embeddings)
    model.config.vocab_size = len(kept)
    for name in ("pad", "bos", "eos", "sep", "cls", "mask"):
        key = f"{name}_token_id"
        index = getattr(model.config, key, None)
        if isinstance(index, int):
            setattr(model.config, key, new.get(index))
