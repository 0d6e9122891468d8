"""Small trained tokenizers of every fast kind, each with the model family that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

REVIEWS = Path(__file__).parents[1] / "examples/data/movie-reviews/train.jsonl"
OTHERS = (
    "Überraschend gut: 85 Minuten, naïv und herzlich, aber für große Säle zu leise.",
    "L'été dernier, le garçon a vu ce film où l'on ne s'ennuie jamais, même à la fin.",
    "Этот фильм был слишком длинным, но актёры играли очень хорошо.",
    "この映画は本当に面白かったです。もう一度見たいと思います。",
    "¿Qué pasó después? Nadie lo sabe — ni siquiera el señor Núñez… 🎬",
)
SIZE = 700
"""Tokens of each trained vocabulary, about."""


def corpus(rows: int = 400) -> list[str]:
    """Return the first movie sentences, and one sentence of five other languages each."""
    with REVIEWS.open(encoding="utf-8") as file:
        return [*OTHERS * 3, *(json.loads(next(file))["text"] for _ in range(rows))]


def write(kind: str, directory: Path) -> Path:
    """Train a tokenizer of a kind in ``KINDS`` and save it as transformers does."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = KINDS[kind]()
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(directory)
    return directory


def model_type(kind: str) -> str:
    """Return the transformers model type whose tokenizer this is."""
    return {"llama3": "llama"}.get(kind, kind)


def write_classifier(kind: str, directory: Path, labels: tuple[str, ...], **sizes: Any) -> Path:
    """Save a random classifier (2 layers × 16) of the kind's family, and its tokenizer."""
    import torch
    import transformers

    write(kind, directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    named = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id")
        for name in ("pad", "bos", "eos", "cls", "sep")
    }
    config = transformers.AutoConfig.for_model(
        model_type(kind),
        **{"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 4}
        | {"intermediate_size": 32, "max_position_embeddings": 160, "vocab_size": len(tokenizer)}
        | named
        | sizes,
    )
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: at for at, label in enumerate(labels)}
    torch.manual_seed(7)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():  # no weight is zero, not even where padding is
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) + 0.05)
    model.save_pretrained(directory)
    return directory


def _wordpiece() -> Any:
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = _trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=special, show_progress=False),
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizer(vocab=backend.get_vocab())


def _roberta() -> Any:
    from transformers import RobertaTokenizer

    vocabulary, merges = _byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return RobertaTokenizer(vocab=vocabulary, merges=merges)


def _modernbert() -> Any:
    """ModernBERT's special tokens come after the vocabulary, the padding token among them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary, merges = _byte_level([])
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    backend.add_tokens([AddedToken("   ", normalized=True)])
    backend.add_special_tokens([AddedToken(name) for name in names])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


def _llama3() -> Any:
    """A word that is a token is taken whole, even if no merges form it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary, merges = _byte_level([])
    vocabulary["Ġunbelievably"] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    words = pre_tokenizers.Split(Regex(r"\s?\p{L}+|\s?\p{N}{1,3}|\s?[^\s\p{L}\p{N}]+"), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"])
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|> $B",
        special_tokens=[("<|begin_of_text|>", backend.token_to_id("<|begin_of_text|>"))],
    )
    byte_level = processors.ByteLevel(trim_offsets=True)
    backend.post_processor = processors.Sequence([byte_level, template])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        pad_token="<|pad|>",
    )


def _llama() -> Any:
    """BPE as sentencepiece does it: no words, and bytes for characters without a token."""
    from tokenizers import models, normalizers, trainers
    from transformers import LlamaTokenizer

    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE + 256,
        special_tokens=special,
        limit_alphabet=60,
        max_token_length=8,
        show_progress=False,
    )
    words = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend = _trained(models.BPE(byte_fallback=True, unk_token="<unk>"), trainer, words, None)
    state = json.loads(backend.to_str())["model"]
    merges = [tuple(merge) for merge in state["merges"]]
    return LlamaTokenizer(vocab=state["vocab"], merges=merges, pad_token="</s>")


def _xlm_roberta() -> Any:
    from transformers import XLMRobertaTokenizer

    start = ["<s>", "<pad>", "</s>", "<unk>"]
    return XLMRobertaTokenizer(vocab=_unigram(start, ["<mask>"]))


def _camembert() -> Any:
    from transformers import CamembertTokenizer

    pieces = _unigram(["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"])
    pieces[4:5] = [("<unk>NOTUSED", -100.0), ("<s>", 0.0), ("</s>", 0.0)]
    return CamembertTokenizer(vocab=[*pieces, ("<mask>", 0.0)])


def _deberta() -> Any:
    from transformers import DebertaV2Tokenizer

    return DebertaV2Tokenizer(vocab=_unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"]))


def _unigram(start: list[str], end: list[str] | None = None) -> list[tuple[str, float]]:
    """Train pieces on the corpus, and put special tokens before and after them."""
    from tokenizers import models, pre_tokenizers, trainers

    trainer = trainers.UnigramTrainer(
        vocab_size=SIZE, special_tokens=["?"], unk_token="?", show_progress=False
    )
    metaspace = pre_tokenizers.Metaspace()
    backend = _trained(models.Unigram(), trainer, None, metaspace)
    pieces = [tuple(piece) for piece in json.loads(backend.to_str())["model"]["vocab"]]
    # Three characters are left out: they are unknown to the tokenizer.
    pieces = [piece for piece in pieces if piece[0] not in ("?", "z", "ü", "映")]
    special = [[(token, 0.0) for token in tokens] for tokens in (start, end or [])]
    return [*special[0], *pieces, *special[1]]


def _byte_level(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import models, pre_tokenizers, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend = _trained(models.BPE(), trainer, None, byte_level)
    state = json.loads(backend.to_str())["model"]
    return state["vocab"], [tuple(merge) for merge in state["merges"]]


def _trained(model: Any, trainer: Any, normalizer: Any, pre_tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    backend = Tokenizer(model)
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    backend.train_from_iterator(corpus(), trainer)
    return backend


KINDS: dict[str, Callable[[], Any]] = {
    "bert": _wordpiece,
    "roberta": _roberta,
    "modernbert": _modernbert,
    "llama": _llama,
    "llama3": _llama3,
    "xlm-roberta": _xlm_roberta,
    "camembert": _camembert,
    "deberta-v2": _deberta,
}
"""WordPiece; byte-level BPE three times, with the last taking words whole; BPE with byte fallback;
Unigram three times, with special tokens in different places."""
