"""What a task shows if it does not say otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from pipeline.stage.tasks.shown import Shown

from pipeline.stage.split import Split

SPLIT = Split("eval", "eval.jsonl", "0" * 64, ["a text"], None, None)


class Plain(Shown):
    def predictions(self, answers):
        return answers[:, 0].tolist()

    def said(self, answers, split):
        return [str(answer) for answer in answers[:, 0]]

    def wanted(self, split):
        return list(split.texts)


def test_a_user_asks_with_a_text_as_it_is_and_reads_the_predictions():
    task, answers = Plain(), np.array([[0.5], [1.5]])
    assert task.presenter.preprocess(task.presenter.user_text("a text")) == "a text"
    assert task.presenter.postprocess(["a text", "another"], answers) == [0.5, 1.5]
    assert task.presenter.bundle_settings(SPLIT) == {}


def test_rows_have_no_parts_labels_or_sureness():
    task, answers = Plain(), np.ones((1, 1))
    assert task.presenter.target_slices(SPLIT) is None
    assert task.presenter.label_table([answers], [1], ["a"]) is None
    assert task.presenter.recalls(answers, [1]) is None
    assert task.presenter.confidence(answers, [1]) is None


def test_a_task_must_say_its_answers_in_words():
    with pytest.raises(TypeError, match="abstract"):
        Shown()
