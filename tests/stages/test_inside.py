"""What a student learns of the states inside its teacher, and what it cannot learn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from pipeline.model import checkpoint
from pipeline.stage import losses
from pipeline.store.artifact import Kind
from pipeline.terms.errors import ModelError
from stages import training
from stages.distill import Distill
from stages.inside import layer_pairs, same_tokens
from stages.internals import captured
from stages.prune import Prune
from tests.models import FILL, artifact_of, write_encoder
from tests.stages.classifiers import relations_of


def test_tokenizers_are_alike_when_they_split_alike_whatever_the_ids(tuned, tmp_path, make_context):
    context = make_context(rows=16)
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))
    for words, alike in ((None, True), (FILL, False)):
        directory = write_encoder(tmp_path / str(alike), words=words)
        if alike:  # the same tokens with other ids
            from tests.models import BAD, GOOD

            directory = write_encoder(tmp_path / "turned", words=(*BAD, *GOOD, *FILL))
        other = checkpoint.load_tokenizer(directory)
        its = training.labelled_rows(context, other, context.split("train"))
        assert same_tokens(tokenizer, rows, other, its) == [alike] * 16


def test_hidden_states_of_other_tokens_are_refused_only_when_asked_for(
    tuned, make_context, tmp_path
):
    write_encoder(tmp_path / "small", layers=1, hidden=16, words=FILL)
    Distill(student="small", epochs=1).run(make_context(rows=8), tuned)
    with pytest.raises(ModelError, match=r"^distill.hidden_weight: .*split every row differently"):
        Distill(student="small", hidden_weight=1).run(make_context(rows=8), tuned)


def test_by_default_answers_and_labels_are_learned_alone(tuned, make_context):
    context = make_context(rows=8)
    draft = Distill(layers=1, epochs=1).run(context, tuned)
    assert (context.work / "teacher" / "hidden.f16").stat().st_size == 0
    assert "rows_split_alike" not in {metric.name for metric in draft.metrics}


def test_a_students_layers_learn_from_the_same_share_of_the_teachers_depth():
    assert layer_pairs(3, 6) == [(0, 1), (1, 3), (2, 5)]
    assert layer_pairs(2, 12) == [(0, 5), (1, 11)]
    assert layer_pairs(1, 3) == [(0, 2)]


def test_relations_alone_bring_the_last_layer_near(tuned, make_context):
    """Nothing else is learned: the answers have no weight, and neither have the labels."""
    found = {}
    for weight in (0.0, 5.0):
        context = make_context(rows=128, work=make_context().base / str(weight))
        stage = Distill(
            layers=1,
            alpha=1,
            temperature=100,
            relation_weight=weight,
            **({"relation_heads": 2} if weight else {}),
            learning_rate=2e-3,
            epochs=4,
        )
        draft = stage.run(context, tuned)
        student, teacher = checkpoint.load(context.output), checkpoint.load(tuned.directory)
        tokenizer = checkpoint.load_tokenizer(tuned.directory)
        batch = tokenizer(list(context.split("dev").texts[:8]), padding=True, return_tensors="pt")
        states = []
        for model, layer in ((student, 0), (teacher, 2)):
            with torch.no_grad(), captured(model, relations_of(layer)) as kept:
                model(**batch)
            states.append(kept.all(relations_of(layer)))
        own, theirs = states
        pair = ((own[2], own[2]), (theirs[2], theirs[2]))
        found[weight] = losses.relation(*pair, batch["attention_mask"], 2).item()
    assert {metric.name for metric in draft.metrics} >= {"rows_split_alike"}
    assert found[5.0] < found[0.0] / 2


def test_layers_that_are_not_there_are_refused(tuned, make_context):
    stage = Distill(layers=1, hidden_weight=1, hidden_map=((1, 0),))
    with pytest.raises(ModelError, match=r"distill.hidden_map: \[1, 0\]: the student has layers 0"):
        stage.run(make_context(rows=8), tuned)


def test_heads_of_relations_that_divide_no_width_are_refused(tuned, make_context):
    stage, context = Distill(layers=1, relation_weight=1, relation_heads=7), make_context(rows=8)
    with pytest.raises(ModelError, match=r"distill.relation_heads: 7 heads do not divide the wid"):
        stage.run(context, tuned)


@pytest.mark.parametrize(("hidden", "heads"), [(32, 4), (36, 12)])
def test_heads_of_relations_divide_both_widths_if_none_are_asked_for(
    hidden, heads, make_context, tmp_path, monkeypatch
):
    asked = []
    relation = losses.relation
    monkeypatch.setattr(
        losses, "relation", lambda *given: asked.append(given[-1]) or relation(*given)
    )
    directory = write_encoder(tmp_path / "other", layers=2, hidden=hidden)
    encoder = artifact_of(directory, Kind.ENCODER)
    Distill(layers=1, relation_weight=1, epochs=1).run(make_context(rows=4), encoder)
    assert set(asked) == {heads}


@pytest.mark.parametrize("place", ["student", "teacher"])
@pytest.mark.parametrize("name", ["relation_weight", "attention_weight"])
def test_queries_that_cannot_be_told_from_keys_are_known_before_a_run(place, name, tmp_path):
    types = {"student": "bert", "teacher": "bert"} | {place: "deberta"}
    configs = {who: {"model_type": kind, "hidden_size": 48} for who, kind in types.items()}
    given = configs["student"], {"teacher": configs["teacher"]}, tmp_path
    with pytest.raises(ModelError, match=rf"distill.{name}: queries, .* type 'deberta' cannot be"):
        Distill(teacher="teacher", **{name: 1}).follow_model(*given)
    assert Distill(teacher="teacher", hidden_weight=1).follow_model(*given)


@pytest.mark.parametrize("place", ["student", "teacher"])
def test_heads_that_divide_no_width_are_known_before_a_run(place, tmp_path):
    widths = {"student": 48, "teacher": 48} | {place: 32}
    configs = {
        name: {"model_type": "bert", "hidden_size": width, "num_attention_heads": 4}
        for name, width in widths.items()
    }
    stage = Distill(teacher="teacher", relation_heads=3, attention_weight=1)
    given = configs["student"], {"teacher": configs["teacher"]}, tmp_path
    with pytest.raises(ModelError, match=r"distill.relation_heads: 3 heads .* attention, 32"):
        stage.follow_model(*given)
    gone = Prune(heads=0.5).follow_model(configs[place], {}, tmp_path)
    configs[place] = gone
    stage.follow_model(configs["student"], {"teacher": configs["teacher"]}, tmp_path)


def test_relations_know_that_heads_were_pruned(tuned, make_context, tmp_path):
    context = make_context(rows=32)
    Prune(heads=0.75, calibration_rows=16).run(context, tuned)
    pruned = artifact_of(context.output, Kind.CHECKPOINT)
    heads = json.loads((tuned.directory / "config.json").read_text())["num_attention_heads"]
    again = make_context(rows=32, artifacts={"whole": tuned})
    stage = Distill(teacher="whole", relation_weight=1, relation_heads=32)
    with pytest.raises(ModelError, match=r"distill.relation_heads: 32 heads do not divide the wid"):
        stage.run(again, pruned)
    Distill(teacher="whole", epochs=1, relation_weight=1, relation_heads=heads).run(again, pruned)
    taught = make_context(rows=32, work=tmp_path / "taught")
    Distill(layers=1, epochs=1, hidden_weight=1, relation_weight=1).run(taught, pruned)


def test_an_empty_map_is_refused():
    with pytest.raises(ValidationError, match="'hidden_map' has no pair of layers"):
        Distill(layers=1, hidden_map=[])


@pytest.mark.parametrize(
    ("given", "unused"),
    [
        ({"hidden_map": "last"}, "hidden_map"),
        ({"transfer": "augment", "hidden_loss": "cosine"}, "hidden_loss"),
        ({"relation_heads": 6}, "relation_heads"),
    ],
)
def test_what_nothing_would_read_is_refused(given, unused):
    with pytest.raises(ValidationError, match=f"'{unused}' needs '"):
        Distill(layers=1, **given)
    for weight in (0, 1):  # a sweep tries both
        Distill(layers=1, transfer="augment", hidden_weight=weight, hidden_map="last")


def test_a_recorded_stage_is_read_again():
    for stage in (Distill(layers=1), Distill(layers=1, transfer="augment", relation_weight=1)):
        assert Distill.model_validate(stage.model_dump(mode="json")) == stage


def test_a_layer_that_is_not_there_is_known_before_a_run():
    config = {"model_type": "bert", "num_hidden_layers": 6}
    for pair, message in (([0, 6], "the teacher 0 to 5"), ([2, 5], "the student has layers 0 t")):
        with pytest.raises(ModelError, match=message):
            Distill(layers=2, hidden_weight=1, hidden_map=[pair]).follow_model(config, {}, Path())
    Distill(layers=2, hidden_weight=1, hidden_map=[[1, 5]]).follow_model(config, {}, Path())
