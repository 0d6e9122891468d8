"""Entities and their scores are seqeval's, tag by tag and weight by weight."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics
from seqeval.metrics.sequence_labeling import get_entities

from rarefy.pipeline.tasks.token_classification import entities
from rarefy.pipeline.tasks.token_classification.entities import Span

BIO = ["O", "B-A", "I-A", "B-B", "I-B"]
BIOES = [*BIO, "E-A", "S-A", "E-B", "S-B"]


def sentences(tags, seed, count=40):
    """Sentences of 0 to 8 words, and answers that share about two thirds of their tags."""
    generator = np.random.default_rng(seed)
    truth = [list(generator.choice(tags, generator.integers(0, 9))) for _ in range(count)]
    answers = [
        [tag if generator.random() < 0.7 else str(generator.choice(tags)) for tag in tagged]
        for tagged in truth
    ]
    return [list(map(str, tagged)) for tagged in truth], answers


@given(st.lists(st.sampled_from([*BIOES, "I-C-D", "B", "I"]), max_size=12))
def test_spans_are_seqeval_s(tags):
    expected = [Span(start, end + 1, kind) for kind, start, end in get_entities(tags)]
    assert entities.spans(tags) == expected


@pytest.mark.parametrize("tags", [BIO, BIOES, ["O", "B-A", "I-A"]])
def test_scores_are_seqeval_s_on_repeated_sentences(tags):
    scheme = entities.scheme_of(BIOES if tags is BIOES else BIO)
    truth, answers = sentences(tags, 3)
    times = np.random.default_rng(3).integers(0, 3, (3, len(truth)))
    found = entities.counts(answers, truth, scheme)
    for row in (np.ones(len(truth), int), *times):
        true, said = (
            [tagged for tagged, n in zip(side, row, strict=True) for _ in range(n)]
            for side in (truth, answers)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = [
                metric(true, said)
                for metric in (metrics.f1_score, metrics.precision_score, metrics.recall_score)
            ]
            accuracy = metrics.accuracy_score(true, said)
        weights = row[None].astype(float)
        scores = (entities.f1, entities.precision, entities.recall)
        assert [score(found)(weights)[0] for score in scores] == pytest.approx(whole)
        right = np.concatenate(
            [
                np.array(t, object) == np.array(a, object)
                for t, a in zip(truth, answers, strict=True)
            ]
        )
        lengths = [len(tagged) for tagged in truth]
        assert entities.token_accuracy(right, lengths)(weights)[0] == pytest.approx(accuracy)


def test_without_entities_there_is_no_score():
    once = np.ones((1, 2))
    found = entities.counts([["O", "O"], []], [["O", "O"], []])
    for score in (entities.f1, entities.precision, entities.recall):
        assert np.isnan(score(found)(once)).all()
    invented = entities.counts([["B-A", "O"], []], [["O", "O"], []])
    assert np.isnan(entities.f1(invented)(once)).all()
    assert np.isnan(entities.recall(invented)(once)).all()
    assert entities.precision(invented)(once) == 0


def test_a_model_that_finds_none_of_some_entities_scores_0():
    found = entities.counts([["O", "O"], []], [["B-A", "O"], []])
    for score in (entities.f1, entities.precision, entities.recall):
        assert score(found)(np.ones((1, 2))) == 0


def test_words_of_all_sentences_get_their_tags_and_one_answered_nan_is_outside():
    tags = entities.tagged(np.array([1, 2, -1]), ("O", "B-A", "I-A"), (2, 0, 1))
    assert tags == [["B-A", "I-A"], [], ["O"]]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (BIO, "BIO"),
        (["O", "B-A"], "BIO"),
        (BIOES, "BIOES"),
        (["O", "S-A"], "BIOES"),
        (["O", "I-A", "I-B"], "IO"),
        (["O", "street", "city"], "bare"),
        (["O", "B-A", "E"], "bare"),
        (["B", "I", "O"], "BIO"),
        (["NN", "VB", "S-", "I"], "bare"),
    ],
)
def test_the_scheme_is_read_off_the_tags(tags, scheme):
    assert entities.scheme_of(tags) == scheme


def test_a_run_of_the_same_bare_tag_is_a_span():
    tags = ["street", "street", "city", "O", "city"]
    assert entities.spans(tags, "bare") == [(0, 2, "street"), (2, 3, "city"), (4, 5, "city")]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(["A", "_", "a-b"])))
)
@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_tags_written_from_spans_are_read_back(scheme, drawn):
    spans, at = [], 0
    for gap, length, kind in drawn:
        spans.append(Span(at + gap, at + gap + length, kind))
        at += gap + length
    tags = entities.tags_of(spans, at + 1, scheme)
    assert entities.spans(tags, scheme) == spans


def test_io_and_bare_tags_are_written_without_borders():
    spans = [Span(0, 2, "A"), Span(3, 4, "B")]
    assert entities.tags_of(spans, 4, "IO") == ["I-A", "I-A", "O", "I-B"]
    assert entities.tags_of(spans, 4, "bare") == ["A", "A", "O", "B"]


@pytest.mark.parametrize("tags", [BIO, BIOES, ["O", "A", "B"], ["O", "I-A", "I-B"]])
def test_the_types_of_tags_are_those_of_their_entities(tags):
    assert entities.types(tags) == ["A", "B"]
