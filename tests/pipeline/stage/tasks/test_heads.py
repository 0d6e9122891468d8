"""Heads: which labels a config.json describes, and for which task."""

from __future__ import annotations

import json

import pytest
from transformers import BertConfig

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
    [
        (None, ["a", "b", "c"]),
        ("single_label_classification", ["a", "b", "c"]),
        ("regression", None),
    ],
)
def test_a_head_for_another_problem_is_none(problem, found):
    config = {"architectures": ["BertForSequenceClassification"], "problem_type": problem}
    assert heads.labels(LABELS | config, heads.SEQUENCE, "single_label_classification") == found


def test_a_head_without_names_has_those_that_transformers_gives_it(tmp_path):
    """transformers leaves its default, two labels, out of config.json."""
    BertConfig(architectures=["BertForSequenceClassification"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "id2label" not in config
    read = BertConfig.from_pretrained(tmp_path)
    assert heads.labels(config, heads.SEQUENCE) == [*read.id2label.values()]


def test_one_output_is_no_head_where_one_of_the_labels_is_the_answer():
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    assert heads.labels(config, heads.SEQUENCE) == ["LABEL_0"]
    assert heads.labels(config, heads.SEQUENCE, fewest=2) is None
