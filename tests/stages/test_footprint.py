"""The disk that stages say they need, compared with what they write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.model import checkpoint, shape
from pipeline.stage.resources import Span, Workload, exactly
from pipeline.store.artifact import Kind
from stages import footprint
from stages.adapt import Adapt
from stages.distill import Distill
from stages.finetune import Finetune
from tests.models import artifact_of, sentences

SMALL_FILES = 150_000
"""Size of tokenizer, configs and random state, which does not grow with the model."""


def workload(context, model) -> Workload:
    tokenizer = checkpoint.load_tokenizer(model.directory)
    lengths = [len(ids) for ids in tokenizer(context.split("train").texts)["input_ids"]]
    found = shape.of_directory(model.directory, tuple(model.directory.iterdir()))
    assert found is not None
    return Workload(
        found,
        rows={"train": len(lengths)},
        tokens={"train": exactly(sum(lengths))},
        longest={"train": max(lengths)},
    )


def size(*directories: Path) -> int:
    return sum(f.stat().st_size for d in directories for f in d.rglob("*") if f.is_file())


@pytest.fixture
def trained(tiny_encoder, make_context, tmp_path):
    context = make_context(work=tmp_path / "trained")
    Finetune(epochs=1).run(context, tiny_encoder)
    return artifact_of(context.output, Kind.CHECKPOINT)


def test_the_teacher_s_hidden_states_take_just_what_was_said(trained, make_context):
    context = make_context()
    work = workload(context, trained)
    Distill(layers=2, epochs=1, hidden_weight=1).run(context, trained)
    on_disk = (context.work / "teacher" / "hidden.f16").stat().st_size
    said = footprint.hidden_states(work, frozenset({"train"}), 2, 32)
    assert said == exactly(on_disk)


@pytest.mark.parametrize(
    "stage",
    [
        Finetune(epochs=1),
        Distill(layers=2, epochs=1),
        Distill(layers=2, epochs=1, hidden_weight=1),
        Adapt(epochs=1),
    ],
    ids=lambda stage: stage.name,
)
def test_a_training_leaves_on_disk_what_it_said(stage, trained, make_context):
    context = make_context()
    needed = stage.resources(workload(context, trained)).disk
    assert needed is not None
    stage.run(context, trained)
    assert needed.least <= size(context.work, context.output) <= needed.most + SMALL_FILES


def test_full_training_takes_sixteen_bytes_a_parameter():
    """Rajbhandari et al. 2020 (ZeRO), §3.1: 4 B weights, 4 B gradients, 8 B of Adam's moments."""
    body = shape.Shape(110_000_000, 12, 768, 12, 3072, 30522)
    assert footprint.training(body).least == 16 * 110_000_000


def test_unknown_lengths_are_between_the_shortest_and_the_longest_row(trained, make_context):
    work = workload(make_context(), trained)
    texts = sentences(64)[0]
    rows = footprint.tokenized(work, frozenset({"train"}))
    tokens = sum(len(text.split()) + 2 for text in texts)
    assert rows.most == 12 * tokens


def test_exports_take_four_bytes_a_parameter_in_float_and_one_in_int8():
    body = shape.Shape(1000, 1, 8, 1, 32, 10)
    alone, compared = (footprint.exports(body, compared=each) for each in (False, True))
    assert (alone.least, compared.least) == (5000, 9000)
    assert (alone.most, compared.most) == (6000, 10_000), "with a second export in int8"
    assert footprint.exports(body.shrunk(100), compared=True).least == 0


def test_rows_of_two_texts_may_share_them_so_that_a_teacher_answers_fewer(trained, make_context):
    work, splits = workload(make_context(rows=8), trained), frozenset({"train"})
    shared = replace(work, texts={"train": 16}, together=2)
    assert footprint.logits(work, splits) == Span(64, 64)
    assert footprint.logits(shared, splits) == Span(0, 128)
    least = [footprint.hidden_states(each, splits, 3, 32).least for each in (work, shared)]
    assert least == [work.tokens_of(splits).least * 3 * 32 * 2, 0]
