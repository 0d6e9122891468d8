"""A tiny encoder with a tokenizer of its own, sentences it can learn, and a context to train in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.stage import Asked, Context
from pipeline.stage.data import Split
from pipeline.stage.tasks.text_classification import TextClassification
from pipeline.store.artifact import Artifact, Kind, Manifest, StageRecord, list_files

os.environ.setdefault("HF_HUB_OFFLINE", "1")

GOOD = ("fine", "lovely", "great", "warm", "bright", "clever")
BAD = ("dull", "awful", "cold", "poor", "clumsy", "grey")
FILL = ("the", "film", "is", "a", "very", "story", "and", "actor", "scene", "with", "kind", "of")
LABELS = ("negative", "positive")


def sentences(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Sentences whose label is told by the mood of the words in them."""
    import random

    draw = random.Random(seed)
    texts, labels = [], []
    for row in range(count):
        words = draw.choices(FILL, k=draw.randint(3, 12)) + draw.choices((BAD, GOOD)[row % 2], k=2)
        draw.shuffle(words)
        texts.append(" ".join(words))
        labels.append(row % 2)
    return texts, labels


def write_encoder(directory: Path, layers: int = 3, hidden: int = 32, words: Any = None) -> Path:
    """Save a random BERT without a head, and a word-level WordPiece tokenizer for our words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: at for at, word in enumerate([*special, *(words or (*FILL, *GOOD, *BAD))])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def artifact_of(directory: Path, kind: Kind) -> Artifact:
    record = StageRecord(name="test", version=1, parameters={}, fingerprint="0")
    manifest = Manifest(kind=kind, files=list_files(directory), stage=record)
    return Artifact(directory, manifest, manifest.digest)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    directory = write_encoder(tmp_path_factory.mktemp("encoder"))
    return artifact_of(directory, Kind.ENCODER)


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., Context]:
    """Return a maker of contexts; each has an output of its own, ``work`` is shared."""
    count = iter(range(1000))

    def make(rows: int = 64, **changes: Any) -> Context:
        output, work = tmp_path / f"output-{next(count)}", tmp_path / "work"
        output.mkdir()
        work.mkdir(exist_ok=True)
        texts, labels = sentences(rows)
        split = Split("train", "train.jsonl", "0" * 64, texts, None, labels)
        values: dict[str, Any] = {
            "task": TextClassification(LABELS, 32, ("text",)),
            "splits": {"train": split},
            "seed": 0,
            "device": "cpu",
            "threads": 1,
            "work": work,
            "output": output,
            "artifacts": {},
            "base": tmp_path,
            "asked": Asked(targets=changes.pop("targets", ())),
        }
        return Context(**(values | changes))

    return make
