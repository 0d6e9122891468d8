"""Models shared by the tests of several stages; each is built once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exporters.build import build
from pipeline.model import checkpoint
from pipeline.stage import Context
from pipeline.stage.split import Split
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from pipeline.store.artifact import Kind
from pipeline.terms.vocabulary import Target
from stages.finetune import Finetune
from tests.models import LABELS, artifact_of, sentences, write_encoder
from tests.stages.chains import TASK, eval_split, made_artifact, make_checkpoint
from tests.stages.classifiers import classifier
from tests.stages.facts import WORDS


def context_below(directory: Path, rows: int) -> Context:
    """Return a context whose folders outlive a single test."""
    texts, labels = sentences(rows)
    return Context(
        task=TEXT_CLASSIFICATION.bind(LABELS, 32, ("text",)),
        splits={"train": Split("train", "train.jsonl", "0" * 64, texts, None, labels)},
        seed=0,
        device="cpu",
        threads=1,
        work=directory / "work",
        output=directory / "output",
        artifacts={},
        base=directory,
    )


@pytest.fixture(scope="session")
def tuned(tiny_encoder, tmp_path_factory):
    """A fine-tuned teacher of three layers."""
    context = context_below(tmp_path_factory.mktemp("teacher"), 256)
    Finetune(learning_rate=2e-3, epochs=6, batch_size=16).run(context, tiny_encoder)
    return artifact_of(context.output, Kind.CHECKPOINT)


@pytest.fixture(scope="session")
def base(tiny_encoder, tmp_path_factory):
    """A checkpoint that was barely trained."""
    context = context_below(tmp_path_factory.mktemp("base"), 16)
    Finetune(learning_rate=1e-5, epochs=1).run(context, tiny_encoder)
    return artifact_of(context.output, Kind.CHECKPOINT)


@pytest.fixture
def encoder(tmp_path):
    return artifact_of(write_encoder(tmp_path / "encoder", words=WORDS), Kind.ENCODER)


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """teacher -> student -> quantize (a plan, same weights) -> export; and an unrelated model."""
    folder = tmp_path_factory.mktemp("chain")
    large, count = make_checkpoint(folder / "large", 3)
    small, fewer = make_checkpoint(folder / "small", 1)
    teacher = made_artifact(large, Kind.CHECKPOINT, parameters=count)
    student = made_artifact(small, Kind.CHECKPOINT, [teacher], parameters=fewer)
    planned = folder / "planned"
    shutil.copytree(small, planned)
    (planned / "quantization.json").write_text("{}")
    quantize = made_artifact(planned, Kind.CHECKPOINT, [student], parameters=fewer)
    stranger = made_artifact(large, Kind.CHECKPOINT, [quantize])
    output = folder / "bundle"
    output.mkdir()
    build(small, output, task=TASK, split=eval_split(), form="deploy")
    export = made_artifact(output, Kind.BUNDLE, [quantize], parameters=fewer)
    return {
        "finetune": teacher,
        "distill": student,
        "quantize": quantize,
        "other-branch": stranger,
        "export": export,
    }


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """Shared by all tests, so each reference is exported once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def context(make_context, chain, work):
    return make_context(
        task=TASK,
        splits={"eval": eval_split()},
        artifacts=chain,
        targets=(Target(),),
        work=work,
    )


@pytest.fixture
def fresh(tmp_path):
    """A classifier as a checkpoint artifact."""
    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "encoder"))
    checkpoint.save(classifier("bert"), tokenizer, tmp_path / "model")
    return artifact_of(tmp_path / "model", Kind.CHECKPOINT)
