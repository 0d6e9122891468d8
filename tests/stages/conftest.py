"""Models shared by the tests of several stages; each is built once."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from rarefy.exporters.build import build
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.finetune import Finetune
from tests.models import LABELS, artifact_of, sentences, write_encoder
from tests.stages.chains import TASK, eval_split, made_artifact, make_checkpoint
from tests.stages.classifiers import classifier
from tests.stages.facts import WORDS
from tests.templates import make_once


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
def tuning(tiny_encoder, tmp_path_factory):
    """The draft of a fine-tuning, and what it made."""

    def train(folder: Path) -> None:
        stage = Finetune(learning_rate=2e-3, epochs=6, batch_size=16)
        draft = stage.run(context_below(folder, 256), tiny_encoder)
        (folder / "draft").write_bytes(pickle.dumps(draft))

    folder = make_once(tmp_path_factory, "tuned", train)
    draft = pickle.loads((folder / "draft").read_bytes())
    return draft, artifact_of(folder / "output", Kind.CHECKPOINT)


@pytest.fixture(scope="session")
def tuned(tuning):
    """A fine-tuned teacher of three layers."""
    return tuning[1]


@pytest.fixture(scope="session")
def base(tiny_encoder, tmp_path_factory):
    """A checkpoint that was barely trained."""

    def train(folder: Path) -> None:
        Finetune(learning_rate=1e-5, epochs=1).run(context_below(folder, 16), tiny_encoder)

    folder = make_once(tmp_path_factory, "base", train)
    return artifact_of(folder / "output", Kind.CHECKPOINT)


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
