"""Tasks and lengths that do not fit the data, a stage or the model are refused with their line."""

from __future__ import annotations

import pytest

from pipeline.terms.errors import RecipeError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ["text", "label"]}, "a pair of texts has no windows; leave it out"),
        ({"task": "token-classification"}, "it reads long texts in windows anyway; leave it out"),
        ({"task": "sentence-embeddings"}, "its texts are cut; leave it out"),
    ],
)
def test_windows_are_refused_where_there_are_none(workshop, changes, message):
    task = changes.pop("task", "text-classification")
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "long_texts": "windows"} | changes
    with pytest.raises(RecipeError, match=rf"trial.yaml:\d+: data.long_texts: .*{message}"):
        workshop.open({"finetune": {}}, data=data, task=task).plan.steps()
