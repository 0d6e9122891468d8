"""What other systems may predict, and what is refused in one line."""

from __future__ import annotations

import math

import pytest

from rarefy.pipeline import tasks
from rarefy.pipeline.tasks.token_classification.entities import Span
from rarefy.pipeline.terms.errors import DataError
from rarefy.stages.transfer import forms

LABELS = ("negative", "positive")
TAGS = ("O", "B-City", "I-City", "B-Zip")


def parse(task, value, column, labels=LABELS):
    form = forms.of_task(tasks.find(task))
    assert column in form.columns
    return form.parse(value, column, labels)


def softmax(logits):
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def test_a_label_is_a_probability_of_one():
    outputs = parse("text-classification", "positive", "label")
    assert softmax(outputs) == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize(
    "value",
    [
        {"positive": 0.75, "negative": 0.25},
        [("negative", 0.25), ("positive", 0.75)],  # a map of Parquet
    ],
)
def test_probabilities_are_the_softmax_of_the_outputs(value):
    outputs = parse("text-classification", value, "probabilities")
    assert softmax(outputs) == pytest.approx([0.25, 0.75])


def test_a_label_without_a_probability_has_none():
    value = {"positive": 1, "negative": None}
    assert softmax(parse("text-classification", value, "probabilities")) == pytest.approx(
        [0, 1], abs=1e-6
    )


def test_integers_are_labels_too():
    assert softmax(parse("text-classification", 1.0, "label", ("0", "1")))[1] > 0.999


def test_several_labels_have_log_odds():
    task = "multi-label-classification"
    shares = parse(task, {"negative": 0.5, "positive": 0.9}, "probabilities")
    assert [1 / (1 + math.exp(-odds)) for odds in shares] == pytest.approx([0.5, 0.9])
    low, high = parse(task, ["positive"], "label")
    assert low < -10
    assert high > 10
    assert max(parse(task, [], "label")) < -10


def test_scores_and_vectors_are_the_outputs():
    assert parse("regression", 3, "label", ()) == [3.0]
    assert list(parse("sentence-embeddings", [1, -0.5], "vector", ())) == [1.0, -0.5]


@pytest.mark.parametrize(
    ("task", "value", "column", "problem"),
    [
        (
            "text-classification",
            "sports",
            "label",
            "'sports' is not one of the labels negative, pos",
        ),
        (
            "text-classification",
            {"sports": 1},
            "probabilities",
            "'sports' is not one of the labels",
        ),
        ("text-classification", {"positive": 0.5}, "probabilities", "sum to 0.5, not to 1"),
        ("text-classification", {"positive": math.nan}, "probabilities", "not a finite number"),
        ("text-classification", {"positive": "1"}, "probabilities", "not a finite number"),
        ("text-classification", {"positive": 1.5}, "probabilities", "1.5, not from 0 to 1"),
        ("text-classification", [0.2, 0.8], "probabilities", "not a mapping of labels to numbers"),
        ("multi-label-classification", "positive", "label", "not a list of labels"),
        ("regression", math.nan, "label", "label is nan, not a finite number"),
        ("regression", "good", "label", "label is 'good', not a finite number"),
        ("sentence-embeddings", [1.0, math.inf], "vector", "vector is inf, not a finite number"),
        ("sentence-embeddings", [], "vector", "not a list of numbers"),
    ],
)
def test_what_is_no_prediction_is_refused(task, value, column, problem):
    with pytest.raises(DataError, match=problem):
        parse(task, value, column)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("Berlin", "not a list of spans"),
        ([[0, 6]], "is not a span"),
        (
            [{"start": 0, "end": 6, "label": "Street"}],
            "'Street' is not one of the labels City, Zip",
        ),
    ],
)
def test_what_is_no_span_is_refused(value, problem):
    with pytest.raises(DataError, match=problem):
        parse("token-classification", value, "spans", TAGS)


def test_spans_become_the_tags_of_whole_words():
    text = "in New York 10001"
    spans = forms.without_blanks([Span(3, 11, "City"), Span(12, 17, "Zip")], text)
    assert forms.tags(spans, text.split(), TAGS) == [0, 1, 2, 3]


def test_words_may_be_split_at_other_places_than_blanks():
    spans = forms.without_blanks([Span(0, 6, "City")], "Berlin, 10115")
    assert forms.tags(spans, ["Berlin", ",", "10115"], TAGS) == [1, 0, 0]


def test_a_second_word_that_no_tag_is_for_is_outside():
    assert forms.tags([Span(0, 4, "Zip")], ["10", "11"], TAGS) == [3, 0]


def test_where_every_word_has_a_tag_a_word_without_a_span_is_refused():
    with pytest.raises(DataError, match="a word is in no span, but the task has no tag O"):
        forms.tags([Span(0, 2, "noun")], ["an", "ox"], ("noun", "verb"))
