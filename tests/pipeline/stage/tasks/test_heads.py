"""Heads: which labels a config.json describes, and for which task."""

from __future__ import annotations

import pytest

from pipeline.stage.tasks import heads

LABELS = {"id2label": {"10": "c", "2": "b", "0": "a"}}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, ["a", "b", "c"]),
        ({"architectures": ["BertForTokenClassification"]}, None),
        ({"architectures": ["BertModel"]}, None),
        ({"architectures": []}, None),
        ({}, None),
    ],
)
def test_only_the_head_that_is_asked_for_has_labels(config, found):
    assert heads.labels(LABELS | config, heads.SEQUENCE, "single_label_classification") == found


@pytest.mark.parametrize(
    ("problem", "found"),
    [(None, []), ("single_label_classification", []), ("regression", None)],
)
def test_a_head_for_another_problem_is_none(problem, found):
    config = {"architectures": ["BertForSequenceClassification"], "problem_type": problem}
    assert heads.labels(config, heads.SEQUENCE, "single_label_classification") == found
