"""A teacher's outputs are exact and computed only once, even across a kill."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.regression.task import REGRESSION
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.stages.adapt import Adapt
from rarefy.stages.distill import Distill
from rarefy.stages.finetune import Finetune
from rarefy.stages.teachers import outputs as teaching
from rarefy.stages.training import loop as trainer
from rarefy.stages.training import run as training
from rarefy.stages.transfer import files as transfer_set
from tests.models import artifact_of, sentences, write_encoder


def test_outputs_are_kept_as_the_teacher_gives_them(tuned, make_context, monkeypatch):
    monkeypatch.setattr(teaching, "TEACHER_BATCH", 4)
    context = make_context(rows=30)
    network, tokenizer = training.open_network(context, tuned)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))
    kept = teaching.outputs(context, network, tokenizer, rows)
    for chosen in ([3, 17, 4], [29]):
        for raw, row in zip(kept.raw(chosen), chosen, strict=True):
            with torch.no_grad():
                answer = network(input_ids=torch.tensor([rows[row]["input_ids"]]))
            # bfloat16 has eight bits of precision.
            assert torch.allclose(raw, answer.logits[0], atol=0.05)


def test_the_units_of_a_row_stand_together_whatever_the_order_of_batches(
    tiny_encoder, make_context, monkeypatch
):
    """Rows are answered by length, here 1, 2 and 3 words in batches of two."""
    monkeypatch.setattr(teaching, "TEACHER_BATCH", 2)
    split = Split("train", "t", "0" * 64, ["fine dull warm", "poor", "great awful"], None, None)
    task = TOKEN_CLASSIFICATION.bind(("O", "B-GOOD"), 16, ("text",))
    context = make_context(task=task, splits={"train": split})
    torch.manual_seed(0)
    network, tokenizer = training.open_network(context, tiny_encoder)
    rows = training.labelled_rows(context, tokenizer, split)
    kept = teaching.outputs(context, network, tokenizer, rows)
    assert [len(kept.raw([row])) for row in range(3)] == [3, 1, 2]
    alone = []
    for row in rows:
        batch = trainer.collate([row], tokenizer)
        with torch.no_grad():
            alone.append(task.head.outputs(network, batch))
    nearest = torch.cdist(kept.raw([2, 0]), torch.cat([alone[2], alone[0], alone[1]])).argmin(1)
    assert nearest.tolist() == [0, 1, 2, 3, 4]


def in_a_file(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's memory is a mapped file, by the system's own list."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *_ = line.split()
        first, end = (int(each, 16) for each in span.split("-"))
        if first <= tensor.data_ptr() < end:
            return inode != "0"
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux lists as mapped")
def test_answers_are_mapped_from_the_disk_while_a_student_learns(tuned, make_context, tmp_path):
    context = make_context(rows=20)
    network, tokenizer = training.open_network(context, tuned)
    splits = [context.split("train"), context.split("dev")]
    rows = training.labelled_rows(context, tokenizer, *splits)
    asked = teaching.outputs(context, network, tokenizer, rows)
    assert in_a_file(asked.logits)
    assert not in_a_file(asked.logits.clone())
    (tmp_path / "labels").mkdir()
    train, dev = asked.logits.split([len(split) for split in splits])
    transfer_set.write_answers(tmp_path / "labels", {"train": train, "dev": dev})
    artifact = artifact_of(tmp_path / "labels", Kind.TRANSFER_SET)
    known = teaching.stored_outputs(context, artifact, splits, rows)
    assert in_a_file(known.logits)
    assert torch.allclose(known.logits, asked.logits, atol=1e-2)
    (goals,) = teaching.goals(context, network, tokenizer, rows, known)
    assert in_a_file(goals.logits)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux lists as mapped")
def test_goals_in_another_width_are_mapped_from_the_disk(make_context, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHUNK", 7)
    context = make_context(rows=20, task=SENTENCE_EMBEDDINGS.bind((), 32, ("text",)))
    teacher = artifact_of(write_encoder(tmp_path / "teacher"), Kind.CHECKPOINT)
    asked = teaching.answers(context, teacher)
    for width in (32, 16, 64):
        folder = write_encoder(tmp_path / str(width), layers=1, hidden=width)
        student, tokenizer = training.open_network(context, artifact_of(folder, Kind.CHECKPOINT))
        rows = training.labelled_rows(context, tokenizer, context.split("train"))
        (goals,) = teaching.goals(context, student, tokenizer, rows, asked)
        assert in_a_file(goals.logits)
        assert goals.logits.shape == (20, width)
        if width >= 32:
            found, whole = (each.logits @ each.logits.T for each in (goals, asked))
            assert torch.allclose(found, whole, rtol=0, atol=1e-4)


def test_a_teacher_killed_in_the_middle_answers_only_what_is_left(tuned, make_context, monkeypatch):
    monkeypatch.setattr(teaching, "pause", lambda *_: 0.0)
    monkeypatch.setattr(teaching, "TEACHER_BATCH", 8)
    context = make_context(rows=40)
    network, tokenizer = training.open_network(context, tuned)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))

    def stop(done, total, note):
        if done >= 24:
            raise KeyboardInterrupt

    context.progress = stop
    with pytest.raises(KeyboardInterrupt):
        teaching.outputs(context, network, tokenizer, rows)
    seen = []
    context.progress = lambda done, total, note: seen.append(done)
    resumed = teaching.outputs(context, network, tokenizer, rows)
    assert seen == [24, 32, 40]

    fresh = make_context(rows=40, work=context.work / "fresh")
    whole = teaching.outputs(fresh, network, tokenizer, rows)
    assert torch.equal(resumed.logits, whole.logits)


def test_answers_that_take_long_to_save_are_saved_less_often(tuned, make_context, monkeypatch):
    now, saved = 0.0, []

    def step(*_):
        nonlocal now
        now += 1

    def slow(_path, finished):
        nonlocal now
        now += 0.375
        saved.append(finished["rows"])

    monkeypatch.setattr(teaching, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(teaching, "SAVE_SECONDS", 1.5)
    monkeypatch.setattr(teaching, "TEACHER_BATCH", 1)
    monkeypatch.setattr(teaching.disk, "write", slow)
    context = make_context(rows=24)
    context.progress = step
    network, tokenizer = training.open_network(context, tuned)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))
    teaching.outputs(context, network, tokenizer, rows)
    assert saved == [2, 10, 18, 24], "after 1.5 s, then after 20 × 0.375 s, and at the end"


def test_scores_far_from_0_are_taught_and_trained_where_training_is_in_bf16(
    tiny_encoder, make_context, monkeypatch
):
    """bfloat16 has no number between 2008, 2016 and 2024."""
    monkeypatch.setattr(trainer, "cpu_has_bf16", lambda: True)
    texts, labels = sentences(32)
    scores = [2015 + 3.0 * label for label in labels]
    split = Split("train", "train.jsonl", "0" * 64, texts, None, scores)
    context = make_context(task=REGRESSION.bind((), 32, ("text",)), splits={"train": split})
    network, tokenizer = training.open_network(context, tiny_encoder)
    with torch.no_grad():
        network.classifier.weight.mul_(1000)  # answers that differ by more than fp32's steps
    rows = training.labelled_rows(context, tokenizer, split, numbered=True)
    answers = teaching.outputs(context, network, tokenizer, rows)
    assert len(answers.logits.unique()) > 16
    seen: list[int] = []

    def loss(model, batch):
        outputs = context.task.head.outputs(model, batch)
        seen.append(len(outputs.unique()))
        return context.task.objective.imitation(outputs, answers.raw(batch["row"].tolist()), 1.0)

    training.train(context, Finetune(epochs=1), network, tokenizer, rows, loss)
    assert seen[0] > 16


def loss_of(draft) -> float:
    (found,) = (metric.value for metric in draft.metrics if metric.name == "train_loss")
    return found


@pytest.mark.slow
def test_a_wider_teacher_of_embeddings_gives_each_stage_the_same_goals(make_context, tmp_path):
    """Other rows have other principal directions, which would turn a student that is good."""
    wide = artifact_of(write_encoder(tmp_path / "wide"), Kind.CHECKPOINT)
    write_encoder(tmp_path / "small", layers=1, hidden=16)
    make = partial(
        make_context, task=SENTENCE_EMBEDDINGS.bind((), 32, ("text",)), artifacts={"wide": wide}
    )
    first = make(rows=128, work=tmp_path / "first")
    stage = Distill(student="small", learning_rate=4e-3, epochs=6, batch_size=16)
    reached = loss_of(stage.run(first, wide))
    student = artifact_of(first.output, Kind.CHECKPOINT)
    splits = first.splits | {
        "train": replace(first.splits["train"], texts=sentences(48, seed=4)[0], labels=None)
    }
    still = {"teacher": "wide", "learning_rate": 1e-9, "epochs": 1, "batch_size": 16}
    for again in (Distill(**still), Adapt(**still)):
        later = make(splits=splits, work=tmp_path / again.name)
        assert loss_of(again.run(later, student)) < 2 * reached


def test_an_adapter_of_embeddings_teaches(make_context, tmp_path):
    body = artifact_of(write_encoder(tmp_path / "body", layers=1), Kind.CHECKPOINT)
    task = SENTENCE_EMBEDDINGS.bind((), 32, ("text",))
    adapting = make_context(8, task=task, artifacts={"body": body}, work=tmp_path / "adapting")
    Adapt(teacher="body").run(adapting, body)
    adapter = artifact_of(adapting.output, Kind.ADAPTER)
    found = teaching.answers(make_context(8, task=task), adapter)
    plain = teaching.answers(make_context(8, task=task, work=tmp_path / "plain"), body)
    assert torch.allclose(found.logits, plain.logits, atol=0.05)
