"""What a task shows if it does not say otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.tasks.task import Presenter

SPLIT = Split("eval", "eval.jsonl", "0" * 64, ["a text"], None, None)


class Plain(Presenter):
    def answers(self, answers):
        return answers[:, 0].tolist()

    def describe_prediction(self, answers, split):
        return [str(answer) for answer in answers[:, 0]]

    def describe_target(self, split):
        return list(split.texts)


def test_a_user_asks_with_a_text_as_it_is_and_reads_the_predictions():
    presenter, predictions = Plain(), np.array([[0.5], [1.5]])
    assert presenter.preprocess(presenter.user_text("a text")) == "a text"
    assert presenter.postprocess(["a text", "another"], predictions) == [0.5, 1.5]
    assert presenter.bundle_settings(SPLIT) == {}


def test_rows_have_no_slices_labels_or_confidence():
    presenter, predictions = Plain(), np.ones((1, 1))
    assert presenter.target_slices(SPLIT) is None
    assert presenter.label_table([predictions], [1], ["a"]) is None
    assert presenter.recalls(predictions, [1]) is None
    assert presenter.confidence(predictions, [1]) is None


def test_a_task_must_say_its_answers_in_words():
    with pytest.raises(TypeError, match="abstract"):
        Presenter()
