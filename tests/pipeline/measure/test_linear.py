"""The linear model is trained, chosen and timed like a model that one could ship."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.measure import linear
from pipeline.stage.split import Split
from pipeline.stage.tasks.multi_label_classification import MULTI_LABEL_CLASSIFICATION
from pipeline.stage.tasks.regression import REGRESSION
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from tests.models import LABELS, TASK, sentences


def splits(rows, labels_of=lambda labels: labels, pairs=None):
    made = []
    for name, count, seed in (("train", rows, 0), ("dev", 40, 1), ("eval", 60, 2)):
        texts, labels = sentences(count, seed)
        made.append(Split(name, f"{name}.jsonl", "0" * 64, texts, None, labels_of(labels)))
    return made


def test_it_learns_which_words_make_a_class():
    train, dev, evaluated = splits(200)
    found = linear.measure(TASK, train, dev, evaluated, seed=0)
    answers = np.array(found.answers)
    assert answers.shape == (60, 2)
    assert answers.sum(axis=1) == pytest.approx(1)
    assert (answers.argmax(axis=1) == np.array(evaluated.labels)).mean() > 0.9
    assert len(found.milliseconds) == linear.CALLS
    assert min(found.milliseconds) > 0
    assert found.rows == 200
    assert found.size > 1000


def test_it_learns_from_texts_without_spaces():
    rng = np.random.default_rng(0)
    signs = [["很差", "讨厌", "无聊", "糟糕"], ["很好", "喜欢", "精彩", "满意"]]

    def text(label):
        filler = "".join(rng.choice(list("我们今天去看了这部电影觉得里面的演员和故事"), 12))
        return f"{filler[:4]}{rng.choice(signs[label])}{filler[4:]}。"

    made = [
        Split(
            name, name, "0" * 64, [text(row % 2) for row in range(rows)], None, [0, 1] * (rows // 2)
        )
        for name, rows in (("train", 400), ("dev", 40), ("eval", 60))
    ]
    answers = np.array(linear.measure(TASK, *made, seed=0).answers)
    assert (answers.argmax(axis=1) == np.array(made[2].labels)).mean() > 0.9


def test_words_that_say_nothing_teach_nothing():
    rng = np.random.default_rng(0)
    train, dev, evaluated = splits(200, lambda labels: rng.integers(0, 2, len(labels)).tolist())
    answers = np.array(linear.measure(TASK, train, dev, evaluated, seed=0).answers)
    assert abs((answers.argmax(axis=1) == np.array(evaluated.labels)).mean() - 0.5) < 0.2


def test_the_pair_of_a_text_is_read_as_well():
    texts, labels = sentences(200, 0)
    rows = [Split(name, name, "0", ["x"] * 200, texts, labels) for name in ("train", "dev", "eval")]
    task = TEXT_CLASSIFICATION.bind(LABELS, 32, ("text", "pair"))
    answers = np.array(linear.measure(task, *rows, seed=0).answers)
    assert (answers.argmax(axis=1) == np.array(labels)).mean() > 0.9


def test_a_class_that_the_training_rows_lack_is_improbable():
    train, dev, evaluated = splits(200)
    task = TEXT_CLASSIFICATION.bind(("never", *LABELS), 32, ("text",))
    moved = [
        Split(s.name, s.reference, s.sha256, s.texts, None, [label + 1 for label in s.labels])
        for s in (train, dev, evaluated)
    ]
    answers = np.array(linear.measure(task, *moved, seed=0).answers)
    assert answers[:, 0].max() < 1e-6


def test_training_rows_of_one_class_teach_to_answer_it():
    """A model's own answers to them may be all alike; each of several labels is treated so, too."""
    train, dev, evaluated = splits(200, lambda labels: [1] * len(labels))
    answers = np.array(linear.measure(TASK, train, dev, evaluated, seed=0).answers)
    assert (answers[:, 1] > 0.999).all()


def test_rows_that_have_no_word_in_common_teach_how_often_a_class_is(monkeypatch):
    """Such as ids: when what occurs in one row only is left out, nothing is left."""
    monkeypatch.setattr(linear, "RARE", 40)
    made = [
        Split(name, name, "0" * 64, [f"{name}{row}" for row in range(40)], None, [0, 1, 1, 1] * 10)
        for name in ("train", "dev", "eval")
    ]
    answers = np.array(linear.measure(TASK, *made, seed=0).answers)
    assert answers[:, 1] == pytest.approx(0.75, abs=0.1)


def test_labels_together_and_scores_are_learned_too():
    flags = splits(200, lambda labels: [(label, 2) if label else (2,) for label in labels])
    several = MULTI_LABEL_CLASSIFICATION.bind(("bad", "good", "any"), 32, ("text",))
    answers = np.array(linear.measure(several, *flags, seed=0).answers)
    truth = np.array([1 in row for row in flags[2].labels])
    assert ((answers[:, 1] >= 0.5) == truth).mean() > 0.9
    scores = splits(200, lambda labels: [4.0 * label for label in labels])
    answers = np.array(linear.measure(REGRESSION.bind((), 32, ("text",)), *scores, seed=0).answers)
    assert np.corrcoef(answers[:, 0], scores[2].labels)[0, 1] > 0.8


def test_a_label_that_no_training_row_has_is_never_answered():
    flags = splits(200, lambda labels: [(label,) for label in labels])
    task = MULTI_LABEL_CLASSIFICATION.bind(("bad", "good", "never"), 32, ("text",))
    answers = np.array(linear.measure(task, *flags, seed=0).answers)
    assert answers[:, 2].max() < 1e-6
    assert not answers[:, 5].any()
