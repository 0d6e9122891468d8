"""A student with fewer layers or another shape learns its teacher's answers."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.pooling import Pooling, read
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.stages.distill import Distill
from rarefy.stages.distill.stage import choose_layers
from rarefy.stages.finetune import Finetune
from tests.families import write_family
from tests.models import (
    BAD,
    FILL,
    GOOD,
    artifact_of,
    configure,
    dropout_rates,
    sentences,
    write_encoder,
    write_model,
)
from tests.pipeline.model.test_pooling import write

Tuned = namedtuple("Tuned", "artifact network tokenizer")


def answers(directory, texts):
    network, tokenizer = checkpoint.load(directory), checkpoint.load_tokenizer(directory)
    with torch.no_grad():
        logits = [network(**tokenizer(text, return_tensors="pt")).logits for text in texts]
    return torch.cat(logits).softmax(-1)


@pytest.mark.slow
def test_one_layer_agrees_with_its_teacher_on_new_sentences(tuned, make_context):
    context = make_context(rows=256)
    stage = Distill(keep_layers=1, learning_rate=2e-3, epochs=6, batch_size=16)
    draft = stage.run(context, tuned)
    assert draft.model["layers"] == 1
    new, _ = sentences(100, seed=5)
    theirs, own = answers(tuned.directory, new), answers(context.output, new)
    assert (theirs.argmax(-1) == own.argmax(-1)).float().mean() >= 0.95


def test_a_student_learns_without_dropout_and_its_config_is_as_before(tuned, make_context):
    context = make_context(rows=8)
    with dropout_rates() as rates:
        Distill(keep_layers=1, epochs=1).run(context, tuned)
    assert rates == {0}
    assert checkpoint.load(context.output).config.hidden_dropout_prob == 0.1


def test_the_student_starts_from_the_layers_that_were_named(tuned, make_context):
    context = make_context(rows=8)
    Distill(keep_layers=(0, 2), learning_rate=1e-8, epochs=1).run(context, tuned)
    teacher, student = checkpoint.load(tuned.directory), checkpoint.load(context.output)
    for own, theirs in ((0, 0), (1, 2)):
        one = student.bert.encoder.layer[own].output.dense.weight
        other = teacher.bert.encoder.layer[theirs].output.dense.weight
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(student.classifier.weight, teacher.classifier.weight, atol=1e-5)


@pytest.mark.slow
def test_another_pretrained_model_of_other_width_and_token_ids_learns(
    tuned, make_context, tmp_path
):
    turned = (*BAD, *GOOD, *FILL)
    write_encoder(tmp_path / "small", layers=2, hidden=16, words=turned)
    context = make_context(rows=256)
    stage = Distill(student="small", learning_rate=4e-3, epochs=8, batch_size=16)
    draft = stage.run(context, tuned)
    assert (draft.model["hidden"], draft.model["layers"]) == (16, 2)
    new, _ = sentences(100, seed=5)
    theirs, own = answers(tuned.directory, new), answers(context.output, new)
    assert (theirs.argmax(-1) == own.argmax(-1)).float().mean() >= 0.9


def test_a_student_learns_without_the_tokens_that_its_texts_never_use(
    tuned, make_context, tmp_path
):
    write_encoder(tmp_path / "small", layers=1, hidden=16)
    tokens = len(checkpoint.load_tokenizer(tmp_path / "small"))
    context = make_context(rows=4)
    stage = Distill(student="small", vocabulary=True, epochs=1)
    draft = stage.run(context, tuned)
    tokenizer = checkpoint.load_tokenizer(context.output)
    assert len(tokenizer) < tokens
    rows = checkpoint.load(context.output).get_input_embeddings().num_embeddings
    assert rows == len(tokenizer)
    measured = {metric.name: metric for metric in draft.metrics}
    assert measured["unseen_token_rate"].n > 0


def test_the_students_bytes_belong_to_the_fingerprint(tmp_path):
    write_encoder(tmp_path / "small", layers=1, hidden=16)
    names = {path.name for path in Distill(student="small").files(tmp_path)}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert Distill(keep_layers=2).files(tmp_path) == ()


@pytest.mark.slow
def test_an_earlier_stage_teaches_the_input(tuned, tiny_encoder, make_context, tmp_path):
    poor = make_context(rows=8, work=tmp_path / "poor")
    Finetune(learning_rate=1e-6, epochs=1).run(poor, tiny_encoder)
    context = make_context(rows=256, artifacts={"big": tuned})
    stage = Distill(teacher="big", learning_rate=2e-3, epochs=6, batch_size=16)
    assert stage.references() == {"teacher": "big"}
    stage.run(context, artifact_of(poor.output, Kind.CHECKPOINT))
    new, _ = sentences(100, seed=5)
    theirs, own = answers(tuned.directory, new), answers(context.output, new)
    assert (theirs.argmax(-1) == own.argmax(-1)).float().mean() >= 0.95


@pytest.mark.slow
def test_unlabelled_text_is_labelled_by_the_teacher(tuned, make_context):
    texts, _ = sentences(200, seed=11)
    train = Split("train", "train.jsonl", "0" * 64, texts[:2], None, [0, 1])
    more = Split("unlabelled", "more.jsonl", "0" * 64, texts[2:], None, None)
    context = make_context(splits={"train": train, "unlabelled": more})
    stage = Distill(keep_layers=2, learning_rate=1e-3, epochs=4, batch_size=16)
    draft = stage.run(context, tuned)
    assert {m.name: m.value for m in draft.metrics}["rows"] == 200
    new, _ = sentences(100, seed=5)
    theirs, own = answers(tuned.directory, new), answers(context.output, new)
    assert (theirs.argmax(-1) == own.argmax(-1)).float().mean() >= 0.95


def test_layers_are_spread_from_the_first_to_the_last():
    assert choose_layers(3, 6) == (0, 2, 5)
    assert choose_layers(6, 6) == (0, 1, 2, 3, 4, 5)
    assert choose_layers(1, 12) == (0,)
    assert choose_layers((1, 3), 4) == (1, 3)
    with pytest.raises(ModelError, match=r"cannot keep 7 layers, the model has 6"):
        choose_layers(7, 6)
    with pytest.raises(ModelError, match=r"indices from 0 to 5 in rising order"):
        choose_layers((0, 6), 6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "give 'keep_layers', a"),
        ({"keep_layers": 2, "student": "x"}, "not both"),
        ({"keep_layers": 0}, "at least one layer"),
        ({"keep_layers": 2, "vocabulary": True}, "'vocabulary' needs a 'student'"),
    ],
)
def test_a_distillation_without_a_student_is_refused_with_the_recipe(parameters, message):
    with pytest.raises(ValidationError, match=message):
        Distill(**parameters)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["albert", "qwen3"])
def test_a_student_of_a_family_that_is_not_described_learns_the_answers_and_teaches(
    family, tuned, make_context, tmp_path
):
    write_family(tmp_path / "other", family, layers=2)
    context = make_context(rows=32)
    stage = Distill(student="other", epochs=1, batch_size=8, learning_rate=1e-3)
    draft = stage.run(context, tuned)
    assert draft.model["architecture"].lower().startswith(family)
    assert len(answers(context.output, sentences(3)[0])) == 3
    taught = artifact_of(context.output, Kind.CHECKPOINT)
    back = make_context(rows=8, work=tmp_path / "back", artifacts={"other": taught})
    (tmp_path / "back").mkdir()
    Distill(teacher="other", epochs=1).run(back, tuned)
    assert checkpoint.describe(checkpoint.load(back.output))["layers"] == 3


def test_a_student_from_sentence_transformers_keeps_its_pooling(tuned, make_context, tmp_path):
    write_encoder(tmp_path / "small/0_Transformer", layers=1, hidden=16)
    write(tmp_path / "st", {"pooling_mode": "cls"}, transformer="0_Transformer")
    for name in ("modules.json", "1_Pooling"):
        (tmp_path / "st" / name).rename(tmp_path / "small" / name)
    context = make_context(rows=8)
    Distill(student="small", epochs=1).run(context, tuned)
    assert read(context.output) == Pooling("cls", normalize=False)


def test_a_student_of_one_token_type_gets_a_tokenizer_that_numbers_no_texts(
    tuned, make_context, tmp_path
):
    write_model(tmp_path / "small", "bert")
    configure(tmp_path / "small", type_vocab_size=1)
    weights = load_file(tmp_path / "small/model.safetensors")
    types = "embeddings.token_type_embeddings.weight"
    save_file(weights | {types: weights[types][:1].clone()}, tmp_path / "small/model.safetensors")
    _, tokenizer = Distill(student="small")._open_student(make_context(rows=8), tuned)
    assert "token_type_ids" not in tokenizer("good", "bad")


def test_a_decoder_whose_config_has_no_padding_token_is_a_student(tuned, make_context, tmp_path):
    """It finds a row's last token by that of its tokenizer, in batches of several rows."""
    write_model(tmp_path / "llama", "llama")
    configure(tmp_path / "llama", pad_token_id=None)
    context = make_context(rows=8)
    Distill(student="llama", epochs=1).run(context, tuned)
    tokenizer = checkpoint.load_tokenizer(context.output)
    assert checkpoint.load(context.output).config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.slow
def test_the_weights_with_the_least_loss_on_dev_are_kept(tuned, make_context):
    """The last epochs diverge, since the learning rate is far too high."""
    found = {}
    for keep in ("last", "best"):
        context = make_context(rows=64, work=make_context().base / keep)
        stage = Distill(
            keep_layers=1,
            keep=keep,
            epochs=6,
            learning_rate=0.05,
            warmup=0.9,
            schedule="constant_with_warmup",
        )
        draft = stage.run(context, tuned)
        texts = context.split("dev").texts
        theirs, own = answers(tuned.directory, texts), answers(context.output, texts)
        found[keep] = float((theirs * (theirs.log() - own.log())).sum(-1).mean())
    assert {metric.name for metric in draft.metrics if metric.split == "dev"} == {"loss"}
    assert found["best"] < found["last"] / 2


def test_a_teacher_beside_a_transfer_set_with_answers_is_refused_before_a_run(workshop):
    chain = ({"quick:Head": None, "as": "head"}, {"label": {}, "as": "labels"})
    taught = {"keep_layers": 1, "teacher": "head"}
    with pytest.raises(RecipeError, match=r"teacher: 'labels' has .* so 'head' is not used"):
        workshop.open(*chain, {"distill": {**taught, "transfer": "labels"}}).plan.steps()
    assert len(workshop.open(*chain, {"distill": taught}).plan.steps()) == 4


def test_patience_needs_something_to_wait_for():
    with pytest.raises(ValidationError, match="'patience' needs 'keep: best'"):
        Distill(keep_layers=1, patience=2)
