"""A chain of artifacts from teacher to bundle, and quick settings to measure it."""

from __future__ import annotations

from pipeline.measure import answers
from pipeline.model import checkpoint
from pipeline.stage.split import Split
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from pipeline.store.artifact import Artifact, Manifest, Parent, StageRecord, list_files
from tests.models import LABELS, sentences, tell_apart, write_encoder

TASK = TEXT_CLASSIFICATION.bind(LABELS, 32, ("text",))


ROWS = 60


QUICK = {
    "processes": 2,
    "seconds": 0.5,
    "rows": 20,
    "memory": False,
    "cold_starts": 0,
    "fastest_float": False,
}


def made_artifact(directory, kind, parents=(), **model):
    record = StageRecord(name="test", version=1, parameters={}, fingerprint="0")
    edges = tuple(Parent(digest=parent.digest, role="input") for parent in parents)
    manifest = Manifest(
        kind=kind, files=list_files(directory), parents=edges, stage=record, model=model
    )
    return Artifact(directory, manifest, manifest.digest)


def eval_split(name="eval"):
    texts, labels = sentences(ROWS, seed=1)
    return Split(name, "eval.jsonl", "0" * 64, texts, None, labels)


def make_checkpoint(folder, layers):
    """A random classifier, identified by its number of layers."""
    encoder = write_encoder(folder / "encoder", layers=layers)
    model = TASK.head.load(str(encoder))
    tell_apart(model.classifier)
    directory = folder / "checkpoint"
    directory.mkdir()
    checkpoint.save(model.eval(), checkpoint.load_tokenizer(encoder), directory)
    return directory, sum(p.numel() for p in model.parameters())


def read_measurements(context):
    return answers.load(context.output)
