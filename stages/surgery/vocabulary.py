"""Vocabulary pruning: remove tokens from the embeddings that the task's text never uses.

The embeddings are often the largest part of a compact model. Pruning keeps every token that
occurs in the training texts, all single characters and bytes (so any word can still be spelled),
and the special tokens. Text made of kept tokens is still split into the same tokens:

- WordPiece takes the longest matching token, and only other tokens are removed.
- BPE applies the same merges (``stages/surgery/byte_pairs.py``).
- Unigram takes the path of the highest score. Its tokens and their scores are kept, so only other
  paths are removed. An unknown character scores less than the worst token by a fixed amount
  (Kudo 2018, arXiv 1804.10959; as sentencepiece does), so the worst token is kept as well.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.surgery import byte_pairs

CHUNK = 1000
"""Texts that are tokenized at once."""
KINDS = ("WordPiece", "BPE", "Unigram")
"""The tokenizers that can be pruned, as tokenizer.json names them."""
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A byte of a character that has no token."""


def count_tokens(tokenizer: Any, texts: Iterable[str]) -> Counter[int]:
    """Return how often each token id occurs in the untruncated texts, without special tokens."""
    counts: Counter[int] = Counter()
    for chunk in _chunks(texts):
        for ids in _encode(tokenizer, chunk, special=False):
            counts.update(ids)
    return counts


def texts_of(split: Split) -> Iterator[str]:
    """Yield every text of a split that training reads, those of negatives as well."""
    yield from split.texts
    yield from split.pairs or ()
    yield from chain.from_iterable(split.negatives or ())


def prune(
    network: Any, tokenizer: Any, splits: Sequence[Split], least_count: int = 1
) -> tuple[Any, Metric]:
    """Remove from a network, in place, the tokens that occur less often in the splits' texts.

    Returns the smaller tokenizer, and the estimated share of new text's tokens that none has shown.
    """
    counts = count_tokens(tokenizer, chain.from_iterable(map(texts_of, splits)))
    often = Counter({token: n for token, n in counts.items() if n >= least_count})
    kept = kept_ids(tokenizer, often, fixed_ids(network))
    smaller = prune_tokenizer(tokenizer, kept)
    check_numbers(tokenizer, smaller, kept)
    if least_count == 1:  # what is spelled otherwise is split otherwise
        check_split(tokenizer, smaller, kept, chain.from_iterable(map(texts_of, splits)))
    prune_embeddings(network, kept)
    rate, total = unseen_rate(counts), sum(counts.values())
    return smaller, Metric(name="unseen_token_rate", split="train", value=rate, n=total)


def check_numbers(whole: Any, small: Any, kept: Sequence[int]) -> None:
    """Raise ModelError if a pruned tokenizer has other numbers than the rows that are kept.

    It has not by construction, unless the tokenizer's class rebuilds it from other settings.
    """
    if whole.convert_ids_to_tokens(list(kept)) != small.convert_ids_to_tokens(range(len(small))):
        raise ModelError("prune.vocabulary: the tokenizer cannot be renumbered")


def check_split(whole: Any, small: Any, kept: Sequence[int], texts: Iterable[str]) -> None:
    """Raise ModelError if a pruned tokenizer splits one of the texts into other tokens.

    It does not by construction, unless the tokenizer's class rebuilds it from other settings.
    """
    for chunk in _chunks(texts):
        pruned = _encode(small, chunk, special=True)
        for text, old, new in zip(chunk, _encode(whole, chunk, special=True), pruned, strict=True):
            if old != [kept[index] for index in new]:
                raise ModelError(
                    f"prune.vocabulary: the pruned tokenizer splits a training text differently: "
                    f"{text[:80]!r}"
                )


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(texts)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _encode(tokenizer: Any, texts: list[str], special: bool) -> Iterator[list[int]]:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for encoding in backend.encode_batch(texts, add_special_tokens=special):
        yield encoding.ids


def unseen_rate(counts: Counter[int]) -> float:
    """Estimate the share of tokens in new text that do not occur in the counted text.

    The Good-Turing estimate is the share of tokens that were seen exactly once (Good 1953).
    """
    total = sum(counts.values())
    return sum(1 for count in counts.values() if count == 1) / total if total else 1.0


def kept_ids(tokenizer: Any, counts: Counter[int], fixed: Collection[int] = ()) -> list[int]:
    """Return the old ids to keep, in rising order; an id's position in the list is its new id.

    ``fixed`` are ids that the model needs (``fixed_ids``). Raises ModelError if the tokenizer is
    neither WordPiece, BPE nor Unigram.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    if model["type"] not in KINDS:
        raise ModelError(
            f"prune.vocabulary: the tokenizer is {model['type']}, but only {', '.join(KINDS[:-1])} "
            f"and {KINDS[-1]} can be pruned"
        )
    special = {entry["id"] for entry in state["added_tokens"]}
    known = set(tokenizer.get_vocab().values())
    vocabulary = _vocabulary(model)
    kept = special | set(counts) | known.intersection(fixed)
    kept |= {vocabulary[token] for token in _alphabet(model, vocabulary)}
    if model["type"] == "BPE":
        tokens = [token for token, index in vocabulary.items() if index in kept]
        kept |= {vocabulary[token] for token in byte_pairs.closure(model, tokens)}
    return sorted(kept)


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    """Return token -> id, which Unigram stores as a list of tokens and scores."""
    if model["type"] == "Unigram":
        return {token: index for index, (token, _) in enumerate(model["vocab"])}
    vocabulary: dict[str, int] = model["vocab"]
    return vocabulary


def _alphabet(model: dict[str, Any], vocabulary: dict[str, int]) -> set[str]:
    """Return the tokens that any text may need: single characters, bytes, the unknown token."""
    if model["type"] == "Unigram":
        needed = {min(model["vocab"], key=lambda entry: entry[1])[0]}
        if model["unk_id"] is not None:
            needed.add(model["vocab"][model["unk_id"]][0])
    else:
        needed = {token for token in [model["unk_token"]] if token in vocabulary}
    spelled = {
        token
        for token in vocabulary
        if len(byte_pairs.symbols(model, token)) == 1 or BYTE.fullmatch(token)
    }
    return needed | spelled


def prune_tokenizer(tokenizer: Any, kept: Sequence[int]) -> Any:
    """Return a tokenizer of the same class with only the ids in ``kept``, renumbered."""
    from rarefy.pipeline.model import checkpoint

    with tempfile.TemporaryDirectory(prefix="rarefy-tokenizer-") as directory:
        written = {Path(path) for path in tokenizer.save_pretrained(directory)}
        path = Path(directory) / "tokenizer.json"
        state = renumber(json.loads(path.read_text(encoding="utf-8")), kept)
        path.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        # Another file with the whole vocabulary could take precedence over tokenizer.json.
        for other in written:
            if other.suffix != ".json" or other.name == "vocab.json":
                other.unlink(missing_ok=True)
        return checkpoint.load_tokenizer(Path(directory))


def renumber(state: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Return tokenizer.json's content with only the ids in ``kept``, renumbered."""
    new = {old: index for index, old in enumerate(kept)}
    model = state["model"]
    vocabulary = {token: new[index] for token, index in _vocabulary(model).items() if index in new}
    if model["type"] == "Unigram":
        model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in new]
        model["unk_id"] = new.get(model["unk_id"])
    else:
        model["vocab"] = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))
    if model["type"] == "BPE":
        model["merges"] = byte_pairs.kept_merges(model, vocabulary)
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


def fixed_ids(model: Any) -> set[int]:
    """Return the token ids that the model needs whatever the text: those that its config names.

    If the model counts positions from the padding id, as RoBERTa does, that id has to keep its
    value, so all ids below it are needed too.
    """
    from torch import nn

    ids = {index for named in _config_ids(model.config).values() for index in named}
    words = model.get_input_embeddings()
    for table in model.modules():
        if isinstance(table, nn.Embedding) and table is not words and table.padding_idx:
            ids.update(range(table.padding_idx + 1))
    return ids


def _config_ids(config: Any) -> dict[str, list[int]]:
    """Return the token ids in a config, by name; a name may stand for several (``eos``)."""
    found = {}
    for name in config.to_dict():
        value = getattr(config, name, None) if name.endswith("_token_id") else None
        if value is not None:
            found[name] = value if isinstance(value, list) else [value]
    return found


def prune_embeddings(model: Any, kept: Sequence[int]) -> None:
    """Keep only the embeddings of the ids in ``kept``, and renumber the config's token ids.

    The output embeddings of a language model shrink in the same way, tied or not.
    """
    import torch

    if not hasattr(model.get_input_embeddings(), "weight"):
        raise ModelError("prune.vocabulary: the embeddings are factorized; prune before factorize")
    new = {index: place for place, index in enumerate(kept)}
    rows = torch.tensor(kept)
    words, scores = model.get_input_embeddings(), model.get_output_embeddings()
    parts = [words.weight, getattr(scores, "weight", None), getattr(scores, "bias", None)]
    padding = words.padding_idx
    with torch.no_grad():
        # Tied weights are one tensor, whose rows move once.
        for table in {id(part): part for part in parts if part is not None}.values():
            table[: len(kept)] = table[rows]
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    model.get_input_embeddings().padding_idx = new.get(padding)
    for name, ids in _config_ids(model.config).items():
        renumbered = [new[index] for index in ids if index in new]
        several = isinstance(getattr(model.config, name), list)
        setattr(model.config, name, renumbered if several else next(iter(renumbered), None))
