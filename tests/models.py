"""A tiny encoder with its own tokenizer, sentences it can learn, and a training context."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.stage import Context, Requirements
from rarefy.pipeline.store.artifact import Artifact, Kind, Manifest, StageRecord, list_files
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION

GOOD = ("fine", "lovely", "great", "warm", "bright", "clever")
BAD = ("dull", "awful", "cold", "poor", "clumsy", "grey")
FILL = ("the", "film", "is", "a", "very", "story", "and", "actor", "scene", "with", "kind", "of")
LABELS = ("negative", "positive")
TASK = TEXT_CLASSIFICATION.bind(LABELS, 32, ("text",))


def sentences(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Sentences whose label is determined by the sentiment of their words."""
    import random

    draw = random.Random(seed)
    texts, labels = [], []
    for row in range(count):
        words = draw.choices(FILL, k=draw.randint(3, 12)) + draw.choices((BAD, GOOD)[row % 2], k=2)
        draw.shuffle(words)
        texts.append(" ".join(words))
        labels.append(row % 2)
    return texts, labels


def write_tokenizer(directory: Path, words: Any = None) -> int:
    """Save a word-level WordPiece tokenizer for our words; return the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

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
    tokenizer.save_pretrained(directory)
    return len(vocabulary)


def write_encoder(directory: Path, layers: int = 3, hidden: int = 32, words: Any = None) -> Path:
    """Save a random BERT without a head, and a tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    size = write_tokenizer(directory, words)
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
    )
    model = BertModel(config)
    tell_apart(model)
    model.save_pretrained(directory)
    return directory


def tell_apart(model: Any) -> None:
    """Change biases and norms a little, of which a new model has many that are equal.

    A trained one has not, and only such a one shares its graph with others (``tests.tracing``).
    """
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.01 * torch.randn_like(parameter))


KINDS = ("bert", "roberta", "electra", "distilbert", "mpnet")
"""The architectures that rarefy knows."""


def write_model(
    directory: Path, kind: str, auto: str = "AutoModel", labels: tuple[str, ...] = ()
) -> Any:
    """Save a random model (2 layers × 16) of an architecture, by one of transformers' Auto classes.

    No weight has the value that a fresh one would have: biases are not zero. Returns the model.
    """
    import torch
    import transformers

    sizes: dict[str, Any] = {"vocab_size": write_tokenizer(directory), "pad_token_id": 0}
    if kind == "distilbert":
        sizes |= {"n_layers": 2, "dim": 16, "n_heads": 4, "hidden_dim": 32}
    else:
        sizes |= {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 32}
    if kind == "electra":
        sizes |= {"embedding_size": 8}
    positions = 130
    if kind == "bert":
        positions = 128  # as of write_encoder's models, which share their graphs with these
    config = transformers.AutoConfig.for_model(kind, max_position_embeddings=positions, **sizes)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: at for at, label in enumerate(labels)}
    torch.manual_seed(7)
    model = getattr(transformers, auto).from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) + 0.05)
    model.save_pretrained(directory)
    return model


def write_finetuned(directory: Path, kind: str = "bert") -> Path:
    """Save a classifier of ``sentences``, trained for a moment, that is right nearly always."""
    from transformers import AutoTokenizer

    model = write_model(directory, kind, "AutoModelForSequenceClassification", LABELS)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    texts, labels = sentences(96, seed=5)
    learn(model, tokenizer, texts, labels)
    model.save_pretrained(directory)
    return directory


def learn(model: Any, tokenizer: Any, texts: list[str], labels: list[int]) -> None:
    """Train a classifier for a moment."""
    import torch

    batch = tokenizer(texts, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        loss = model(**batch, labels=torch.tensor(labels)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def configure(directory: Path, drop: str = "", **changes: Any) -> None:
    """Change values of a model's config.json, and drop one."""
    path = directory / "config.json"
    values = json.loads(path.read_text()) | changes
    values.pop(drop, None)
    path.write_text(json.dumps(values))


def pickle_weights(directory: Path) -> None:
    """Replace a model's safetensors by a pickled state dict."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()


def rename_weights(directory: Path, rename: Callable[[str], str]) -> None:
    """Rename a model's weights; drop those whose new name is empty."""
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    state = {rename(name): tensor for name, tensor in load_file(path).items()}
    save_file({name: tensor for name, tensor in state.items() if name}, path)


def artifact_of(directory: Path, kind: Kind) -> Artifact:
    record = StageRecord(name="test", version=1, parameters={}, fingerprint="0")
    manifest = Manifest(kind=kind, files=list_files(directory), stage=record)
    return Artifact(directory, manifest, manifest.digest)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    directory = write_encoder(tmp_path_factory.mktemp("encoder"))
    return artifact_of(directory, Kind.ENCODER)


@contextmanager
def dropout_rates() -> Iterator[set[float]]:
    """Yield a set that gets the rates of the dropout layers through which a training goes."""
    import torch

    rates: set[float] = set()

    def watch(module: Any, inputs: Any, outputs: Any) -> None:
        if isinstance(module, torch.nn.Dropout) and module.training:
            rates.add(module.p)

    with torch.nn.modules.module.register_module_forward_hook(watch):
        yield rates


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., Context]:
    """Return a factory of contexts; each has its own output, and they share ``work``."""
    count = iter(range(1000))

    def make(rows: int = 64, **changes: Any) -> Context:
        output, work = tmp_path / f"output-{next(count)}", tmp_path / "work"
        output.mkdir()
        work.mkdir(exist_ok=True)
        texts, labels = sentences(rows)
        split = Split("train", "train.jsonl", "0" * 64, texts, None, labels)
        texts, labels = sentences(32, seed=8)
        held_out = Split("dev", "train.jsonl", "2" * 64, texts, None, labels)
        texts, labels = sentences(16, seed=9)
        evaluated = Split("eval", "eval.jsonl", "1" * 64, texts, None, labels)
        values: dict[str, Any] = {
            "task": TEXT_CLASSIFICATION.bind(LABELS, 32, ("text",)),
            "splits": {"train": split, "dev": held_out, "eval": evaluated},
            "seed": 0,
            "device": "cpu",
            "threads": 1,
            "work": work,
            "output": output,
            "artifacts": {},
            "base": tmp_path,
            "requirements": Requirements(targets=changes.pop("targets", ())),
        }
        return Context(**(values | changes))

    return make


def probabilities(bundle: Path, texts: Any, pairs: Any = None) -> Any:
    """Return a bundle's probabilities for each text: rows × labels."""
    from rarefy.pipeline.model.runtime.bundle_model import BundleModel

    return TASK.head.predictions(BundleModel(bundle).units(texts, pairs))
