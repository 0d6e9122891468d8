"""What a student learns of the states inside its teacher, and what it cannot learn."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.model import checkpoint
from pipeline.terms.errors import ModelError
from stages import training
from stages.distill import Distill
from stages.inside import same_tokens, spread_layers
from tests.models import FILL, write_encoder


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
    assert spread_layers(3, 6) == [(0, 1), (1, 3), (2, 5)]
    assert spread_layers(2, 12) == [(0, 5), (1, 11)]
    assert spread_layers(1, 3) == [(0, 2)]


def test_layers_that_are_not_there_are_refused(tuned, make_context):
    stage = Distill(layers=1, hidden_weight=1, hidden_map=((1, 0),))
    with pytest.raises(ModelError, match=r"distill.hidden_map: \[1, 0\]: the student has layers 0"):
        stage.run(make_context(rows=8), tuned)


def test_an_empty_map_is_refused():
    with pytest.raises(ValidationError, match="'hidden_map' has no pair of layers"):
        Distill(layers=1, hidden_map=[])


@pytest.mark.parametrize(
    ("given", "unused"),
    [
        ({"hidden_map": "last"}, "hidden_map"),
        ({"transfer": "augment", "hidden_loss": "cosine"}, "hidden_loss"),
    ],
)
def test_what_nothing_would_read_is_refused(given, unused):
    with pytest.raises(ValidationError, match=f"'{unused}' needs '"):
        Distill(layers=1, **given)
    for weight in (0, 1):  # a sweep tries both
        Distill(layers=1, transfer="augment", hidden_weight=weight, hidden_map="last")


def test_a_recorded_stage_is_read_again():
    for stage in (Distill(layers=1), Distill(layers=1, transfer="augment", hidden_weight=1)):
        assert Distill.model_validate(stage.model_dump(mode="json")) == stage


def test_a_layer_that_is_not_there_is_known_before_a_run():
    config = {"model_type": "bert", "num_hidden_layers": 6}
    for pair, message in (([0, 6], "the teacher 0 to 5"), ([2, 5], "the student has layers 0 t")):
        with pytest.raises(ModelError, match=message):
            Distill(layers=2, hidden_weight=1, hidden_map=[pair]).follow_model(config, {}, Path())
    Distill(layers=2, hidden_weight=1, hidden_map=[[1, 5]]).follow_model(config, {}, Path())
