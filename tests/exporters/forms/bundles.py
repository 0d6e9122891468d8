"""Small bundles to write in other forms."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rarefy.exporters.build import build
from rarefy.exporters.forms import source
from rarefy.exporters.forms.source import Source
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint, pooling
from rarefy.pipeline.model.pooling import Pooling
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from tests.models import TASK, sentences, write_encoder, write_finetuned, write_model

TEXTS, LABELS = sentences(12, seed=3)
SPLIT = Split("dev", "dev.jsonl", "0" * 64, TEXTS, None, LABELS)
EMBEDS = SENTENCE_EMBEDDINGS.bind((), 32, ("text",))


def classifier(
    folder: Path,
    kind: str = "bert",
    tokens: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Path:
    """Write a bundle that classifies; return its folder.

    ``tokens``: changes of the tokenizer_config.json of the checkpoint that is exported.
    """
    folder.mkdir(parents=True)
    write_finetuned(folder / "checkpoint", kind)
    change(folder / "checkpoint", "tokenizer_config.json", lambda values: values.update(tokens))
    return _build(folder, TASK, Split("dev", "d", "0" * 64, TEXTS, None, LABELS), **options)


def embedder(folder: Path, how: Pooling, kind: str = "bert", **options: Any) -> Path:
    """Write a bundle that embeds; return its folder."""
    folder.mkdir(parents=True)
    if kind == "bert":
        write_encoder(folder / "encoder", layers=1)
    else:
        write_model(folder / "encoder", kind)
    body = EMBEDS.head.load(str(folder / "encoder"))
    pooling.note(body.config, how)
    tokenizer = checkpoint.load_tokenizer(folder / "encoder")
    checkpoint.save(body, tokenizer, folder / "checkpoint")
    split = Split("dev", "dev.jsonl", "0" * 64, TEXTS, None, None)
    return _build(folder, EMBEDS, split, **options)


def _build(folder: Path, task: Any, split: Split, **options: Any) -> Path:
    (folder / "bundle").mkdir()
    given = {"form": "deploy", **options}
    build(folder / "checkpoint", folder / "bundle", task=task, split=split, **given)
    return folder / "bundle"


def read(folder: Path, digest: str | None = None) -> Source:
    return source.read(folder, "tiny", digest)


def change(folder: Path, name: str, by: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file of a bundle."""
    values = json.loads((folder / name).read_text())
    by(values)
    (folder / name).write_text(json.dumps(values))
