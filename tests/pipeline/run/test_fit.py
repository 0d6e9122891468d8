"""Tasks and lengths that do not fit the data, a stage or the model are refused with their line."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from rarefy.pipeline.terms.errors import RecipeError
from tests.models import configure

DATA = {"train": "train.jsonl", "eval": "eval.jsonl"}


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


@pytest.mark.parametrize("lengths", [[2], [8, 33], [4, 32]])
def test_lengths_that_no_row_can_have_are_refused_before_training(workshop, lengths):
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "max_length": 32}
    opened = workshop.open("finetune", "export", {"validate": {"lengths": lengths}}, data=data)
    if lengths == [4, 32]:
        assert opened.plan.steps()
        return
    said = (
        rf"trial.yaml:\d+: stages\[2\]\.validate: lengths: {re.escape(str(lengths))}: give lengths "
        "from 4 to 32, the data's max_length$"
    )
    with pytest.raises(RecipeError, match=said):
        opened.plan.steps()


def test_a_student_whose_positions_end_before_the_rows_is_refused_with_its_line(workshop):
    shutil.copytree(workshop.folder / "model", workshop.folder / "student")
    configure(workshop.folder / "student", max_position_embeddings=64)
    stages = [{"finetune": {}}, {"distill": {"student": "student"}}, "quantize"]
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "max_length": 64}
    workshop.open(*stages, data=data).plan.steps()
    said = r"trial\.yaml:9: .*distill: .*positions for only 64 tokens, but data\.max_length is 100"
    with pytest.raises(RecipeError, match=said):
        workshop.open(*stages, data=data | {"max_length": 100}).plan.steps()


@pytest.mark.parametrize("task", ["sentence-embeddings", "text-classification"])
def test_a_prompt_before_every_text_is_refused_where_embeddings_are_the_answers(workshop, task):
    model = workshop.folder / "model"
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    modules = [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]
    (model / "modules.json").write_text(json.dumps(modules))
    prompt = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(prompt))
    bare = task == "sentence-embeddings"
    more = {"task": task} if not bare else {"task": task, "data": DATA | {"label": None}}
    opened = workshop.open("export" if bare else "finetune", **more)
    if not bare:
        opened.plan.steps()
        return
    with pytest.raises(
        RecipeError, match=r"trial\.yaml:2: model: .*default_prompt_name is 'query'"
    ):
        opened.plan.steps()
