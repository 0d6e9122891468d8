"""A tiny random model of every family, with a trained tokenizer of the family's kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tests.models import LABELS, sentences

Kind = Literal["wordpiece", "bpe", "unigram"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
IDS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
GROUPED = {"num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}

# Windows and buckets are shorter than a text of 512 tokens, as they are in real models.
FAMILIES: dict[str, tuple[str, Kind, dict[str, Any]]] = {
    "bert": ("bert", "wordpiece", {}),
    "roberta": ("roberta", "bpe", {"type_vocab_size": 1}),
    "xlm-roberta": ("xlm-roberta", "unigram", {"type_vocab_size": 1}),
    "camembert": ("camembert", "unigram", {"type_vocab_size": 1}),
    "electra": ("electra", "wordpiece", {"embedding_size": 16}),
    "distilbert": ("distilbert", "wordpiece", {}),
    "mpnet": ("mpnet", "wordpiece", {}),
    "deberta": ("deberta", "bpe", {**RELATIVE, "max_relative_positions": 64, "type_vocab_size": 0}),
    "deberta-v2": (
        "deberta-v2",
        "unigram",
        {**RELATIVE, "conv_kernel_size": 3, "embedding_size": 16, "max_relative_positions": 64},
    ),
    "deberta-v3": (
        "deberta-v2",
        "unigram",
        {
            **RELATIVE,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
        },
    ),
    "modernbert": ("modernbert", "bpe", {"local_attention": 16, **IDS}),
    "ernie": ("ernie", "wordpiece", {}),
    "data2vec-text": ("data2vec-text", "bpe", {"type_vocab_size": 1}),
    "roberta-prelayernorm": ("roberta-prelayernorm", "bpe", {"type_vocab_size": 1}),
    "albert": ("albert", "unigram", {"embedding_size": 16}),
    "llama": ("llama", "bpe", GROUPED),
    "qwen3": ("qwen3", "bpe", {**GROUPED, "head_dim": 8}),
}
"""Name -> model type, kind of tokenizer, and what the config has besides its sizes.

DeBERTa-v3 is DeBERTa-v2 with other settings. The last three are not described.
"""


def write_family(
    directory: Path,
    family: str,
    auto: str = "AutoModel",
    *,
    layers: int = 3,
    hidden: int = 32,
    positions: int = 514,
    **further: Any,
) -> Any:
    """Save a random model of a family by one of transformers' Auto classes; return it."""
    import torch
    import transformers

    kind, tokens, own = FAMILIES[family]
    sizes = {"vocab_size": write_tokenizer(directory, tokens), "pad_token_id": 0}
    if kind == "distilbert":
        sizes |= {"n_layers": layers, "dim": hidden, "n_heads": 4, "hidden_dim": 2 * hidden}
    else:
        sizes |= {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 2 * hidden}
    values = sizes | {"max_position_embeddings": positions} | own | further
    config = transformers.AutoConfig.for_model(kind, **values)
    config.id2label, config.label2id = dict(enumerate(LABELS)), {LABELS[0]: 0, LABELS[1]: 1}
    torch.manual_seed(7)
    model = getattr(transformers, auto).from_config(config).eval()
    with torch.no_grad():  # fresh weights of 0.02 and biases of 0 make all answers alike
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(directory)
    return model


def write_tokenizer(directory: Path, kind: Kind) -> int:
    """Train and save a tokenizer with ids 0 … 4 for ``SPECIAL``; return its vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = sentences(200)[0]
    special = list(SPECIAL)
    backend: Any
    trainer: Any
    if kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special)
    elif kind == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    inputs = ["input_ids", *(["token_type_ids"] if kind == "wordpiece" else []), "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=inputs,
        **dict(zip(names, SPECIAL, strict=True)),
    )
    tokenizer.save_pretrained(directory)
    return len(tokenizer)
