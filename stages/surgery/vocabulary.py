"""Vocabulary pruning: remove tokens from the embeddings that the task's text never uses.

The embeddings are often the largest part of a compact model. Pruning keeps every token that
occurs in the training texts, all single characters and bytes (so any word can still be spelled),
and the special tokens. Text made of kept tokens is still split into the same tokens:

- WordPiece takes the longest matching token, and only other tokens are removed.
- BPE applies the same merges (see ``closure``).
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
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.terms.errors import ModelError

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
    often = {token for token, count in counts.items() if count >= least_count}
    retained = retained_ids(tokenizer, often, fixed_ids(network))
    smaller = prune_tokenizer(tokenizer, retained)
    check_numbers(tokenizer, smaller, retained)
    if least_count == 1:  # what is spelled otherwise is split otherwise
        texts = chain.from_iterable(map(texts_of, splits))
        check_split(tokenizer, smaller, retained, texts)
    prune_embeddings(network, retained)
    rate, total = unseen_rate(counts), counts.total()
    return smaller, Metric(name="unseen_token_rate", split="train", value=rate, n=total)


def check_numbers(whole: Any, small: Any, retained: Sequence[int]) -> None:
    """Raise ModelError if a pruned tokenizer has other numbers than the rows that are retained.

    It has not by construction, unless the tokenizer's class rebuilds it from other settings.
    """
    before = whole.convert_ids_to_tokens(list(retained))
    after = small.convert_ids_to_tokens(range(len(small)))
    if before != after:
        raise ModelError("prune.vocabulary: the tokenizer cannot be renumbered")


def check_split(whole: Any, small: Any, retained: Sequence[int], texts: Iterable[str]) -> None:
    """Raise ModelError if a pruned tokenizer splits one of the texts into other tokens.

    It does not by construction, unless the tokenizer's class rebuilds it from other settings.
    """
    for chunk in _chunks(texts):
        before = _encode(whole, chunk, special=True)
        after = _encode(small, chunk, special=True)
        for text, old, new in zip(chunk, before, after, strict=True):
            renumbered = [retained[index] for index in new]
            if old != renumbered:
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
    if not total:
        return 1.0
    once = sum(1 for count in counts.values() if count == 1)
    return once / total


def retained_ids(tokenizer: Any, seen: Iterable[int], fixed: Collection[int] = ()) -> list[int]:
    """Return the old ids to keep, in rising order; an id's position in the list is its new id.

    Args:
        tokenizer: a fast tokenizer.
        seen: ids that the texts use.
        fixed: ids that the model needs (``fixed_ids``).

    Raises:
        ModelError: if the tokenizer is neither WordPiece, BPE nor Unigram.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    if model["type"] not in KINDS:
        raise ModelError(
            f"prune.vocabulary: the tokenizer is {model['type']}, but only {', '.join(KINDS[:-1])} "
            f"and {KINDS[-1]} can be pruned"
        )
    retained = {entry["id"] for entry in state["added_tokens"]}
    retained.update(seen)
    ids = set(tokenizer.get_vocab().values())
    retained.update(ids.intersection(fixed))
    vocabulary = _vocabulary(model)
    retained.update(vocabulary[token] for token in _alphabet(model, vocabulary))
    if model["type"] == "BPE":
        tokens = [token for token, index in vocabulary.items() if index in retained]
        retained.update(vocabulary[token] for token in closure(model, tokens))
    return sorted(retained)


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    """Return token -> id, which Unigram stores as a list of tokens and scores."""
    if model["type"] == "Unigram":
        return {token: index for index, (token, _) in enumerate(model["vocab"])}
    vocabulary: dict[str, int] = model["vocab"]
    return vocabulary


def _alphabet(model: dict[str, Any], vocabulary: dict[str, int]) -> set[str]:
    """Return the tokens that any text may need: single characters, bytes, the unknown token."""
    needed = set()
    if model["type"] == "Unigram":
        worst = min(model["vocab"], key=lambda entry: entry[1])
        needed.add(worst[0])
        if model["unk_id"] is not None:
            unknown = model["vocab"][model["unk_id"]]
            needed.add(unknown[0])
    elif model["unk_token"] in vocabulary:
        needed.add(model["unk_token"])
    for token in vocabulary:
        if len(symbols(model, token)) == 1 or BYTE.fullmatch(token):
            needed.add(token)
    return needed


def prune_tokenizer(tokenizer: Any, retained: Sequence[int]) -> Any:
    """Return a tokenizer of the same class with only the ids in ``retained``, renumbered."""
    from rarefy.pipeline.model import checkpoint

    with tempfile.TemporaryDirectory(prefix="rarefy-tokenizer-") as directory:
        files = {Path(path) for path in tokenizer.save_pretrained(directory)}
        path = Path(directory) / "tokenizer.json"
        state = json.loads(path.read_text(encoding="utf-8"))
        text = json.dumps(renumber(state, retained), ensure_ascii=False)
        path.write_text(text, encoding="utf-8")
        # Another file with the whole vocabulary could take precedence over tokenizer.json.
        for other in files:
            if other.suffix != ".json" or other.name == "vocab.json":
                other.unlink(missing_ok=True)
        return checkpoint.load_tokenizer(Path(directory))


def renumber(state: dict[str, Any], retained: Sequence[int]) -> dict[str, Any]:
    """Return tokenizer.json's content with only the ids in ``retained``, renumbered."""
    new = {old: index for index, old in enumerate(retained)}
    model = state["model"]
    vocabulary = {}
    for token, index in _vocabulary(model).items():
        if index in new:
            vocabulary[token] = new[index]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in new]
        model["unk_id"] = new.get(model["unk_id"])
    else:
        ordered = sorted(vocabulary.items(), key=lambda entry: entry[1])
        model["vocab"] = dict(ordered)
    if model["type"] == "BPE":
        model["merges"] = retained_merges(model, vocabulary)
    for entry in state["added_tokens"]:
        entry["id"] = new[entry["id"]]
    _renumber_template(state.get("post_processor"), new)
    return state


def _renumber_template(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Renumber the special tokens that a post-processor adds, which are stored by id."""
    if processor is None:
        return
    for name in ("cls", "sep"):  # BertProcessing, RobertaProcessing: [token, id]
        pair = processor.get(name)
        if pair is not None:
            pair[1] = new[pair[1]]
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

    ids: set[int] = set()
    ids.update(*_config_ids(model.config).values())
    words = model.get_input_embeddings()
    for table in model.modules():
        if isinstance(table, nn.Embedding) and table is not words and table.padding_idx:
            ids.update(range(table.padding_idx + 1))
    return ids


def _config_ids(config: Any) -> dict[str, list[int]]:
    """Return the token ids in a config, by name; a name may stand for several (``eos``)."""
    ids = {}
    for name in config.to_dict():
        if not name.endswith("_token_id"):
            continue
        value = getattr(config, name, None)
        if isinstance(value, list):
            ids[name] = value
        elif value is not None:
            ids[name] = [value]
    return ids


def prune_embeddings(model: Any, retained: Sequence[int]) -> None:
    """Keep only the embeddings of the ids in ``retained``, and renumber the config's token ids.

    The output embeddings of a language model shrink in the same way, tied or not.
    """
    import torch

    new = {index: place for place, index in enumerate(retained)}
    rows = torch.tensor(retained)
    words, scores = model.get_input_embeddings(), model.get_output_embeddings()
    tables = [words.weight, getattr(scores, "weight", None), getattr(scores, "bias", None)]
    # Tied weights are one tensor, whose rows move once.
    distinct = {id(table): table for table in tables if table is not None}
    padding = words.padding_idx
    with torch.no_grad():
        for table in distinct.values():
            table[: len(retained)] = table[rows]
    model.resize_token_embeddings(len(retained), mean_resizing=False)
    model.get_input_embeddings().padding_idx = new.get(padding)
    for name, ids in _config_ids(model.config).items():
        renumbered = [new[index] for index in ids if index in new]
        value: Any = renumbered
        if not isinstance(getattr(model.config, name), list):
            value = next(iter(renumbered), None)
        setattr(model.config, name, value)


def closure(model: dict[str, Any], tokens: Iterable[str]) -> set[str]:
    """Return the tokens, and every token that the merges pass through to form one of them.

    A word is encoded by applying, again and again, the merge of lowest rank among its adjacent
    pairs (Sennrich et al. 2016, arXiv 1508.07909). No merge crosses the borders of a token in the
    result, so a token is formed by the same merges in every word: those that encode the token on
    its own. If the results of these merges are kept as well, and the merges keep their order, text
    made of kept tokens is split as before: at each step the merge that was chosen is still there,
    and the merges that it was preferred to have only become fewer.

    ``model`` is the "model" of tokenizer.json. A token that no merges form, such as a special
    token, stands alone.
    """
    ranks = {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}
    closed: set[str] = set()
    for token in tokens:
        closed.add(token)
        passed = _merge(model, ranks, token)
        if passed[-1:] == [token]:
            closed.update(passed)
    return closed


def retained_merges(model: dict[str, Any], tokens: Collection[str]) -> list[list[str]]:
    """Return the merges whose parts and result are among ``tokens``, in the same order."""
    merges = []
    for left, right in model["merges"]:
        parts = (left, right, _joined(model, left, right))
        if all(part in tokens for part in parts):
            merges.append([left, right])
    return merges


def symbols(model: dict[str, Any], token: str) -> list[str]:
    """Return the symbols that a token is merged from: one per character, marked as the model does.

    The model may mark every symbol that continues a word (``continuing_subword_prefix``), and the
    one that ends it (``end_of_word_suffix``).
    """
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    bare = token.removeprefix(prefix).removesuffix(suffix)
    parts = [prefix + letter for letter in bare]
    if parts and not token.startswith(prefix):
        parts[0] = bare[0]
    if parts and token.endswith(suffix):
        parts[-1] += suffix
    return parts


def _merge(model: dict[str, Any], ranks: dict[tuple[str, str], int], token: str) -> list[str]:
    """Return all symbols that occur while a token is encoded, the last merge's result last."""
    parts = symbols(model, token)
    passed = list(parts)
    while len(parts) > 1:
        pairs = list(pairwise(parts))
        ranked = [ranks.get(pair, len(ranks)) for pair in pairs]
        rank = min(ranked)
        if rank == len(ranks):
            return []
        place = ranked.index(rank)
        merged = _joined(model, *pairs[place])
        parts[place : place + 2] = [merged]
        passed.append(merged)
    return passed


def _joined(model: dict[str, Any], left: str, right: str) -> str:
    prefix = model.get("continuing_subword_prefix") or ""
    return left + right.removeprefix(prefix)
