"""What a student learns of the states inside its teacher, and what it cannot learn."""

from __future__ import annotations

import pytest

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.distill import Distill
from rarefy.stages.distill.states import same_tokens, spread_layers
from rarefy.stages.training import run as training
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
    draft = Distill(keep_layers=1, epochs=1).run(context, tuned)
    assert (context.work / "teacher" / "hidden.f16").stat().st_size == 0
    assert "rows_split_alike" not in {metric.name for metric in draft.metrics}


def test_a_students_layers_learn_from_the_same_share_of_the_teachers_depth():
    assert spread_layers(3, 6) == [(0, 1), (1, 3), (2, 5)]
    assert spread_layers(2, 12) == [(0, 5), (1, 11)]
    assert spread_layers(1, 3) == [(0, 2)]


def test_a_recorded_stage_is_read_again():
    for stage in (
        Distill(keep_layers=1),
        Distill(keep_layers=1, transfer="augment", hidden_weight=1),
    ):
        assert Distill.model_validate(stage.model_dump(mode="json")) == stage
