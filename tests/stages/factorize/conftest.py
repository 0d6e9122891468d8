"""A classifier wide enough for low ranks to save weights."""

from __future__ import annotations

import pytest
import torch
import transformers

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store.artifact import Kind
from tests.models import LABELS, artifact_of, write_encoder


@pytest.fixture
def wide(tmp_path):
    torch.manual_seed(1)
    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "encoder"))
    config = transformers.BertConfig(
        vocab_size=29,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        id2label=dict(enumerate(LABELS)),
    )
    network = transformers.BertForSequenceClassification(config)
    checkpoint.save(network, tokenizer, tmp_path / "model")
    return artifact_of(tmp_path / "model", Kind.CHECKPOINT)
