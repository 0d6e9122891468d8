"""Heads: which labels a config.json describes, and for which task."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import BertConfig

from rarefy.pipeline.tasks.shared import heads
from tests.models import configure, write_model

NAMES = list("abcdefghijk")
LABELS = {"id2label": {str(at): NAMES[at] for at in (10, *range(10))}}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, NAMES),
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
        (None, NAMES),
        ("single_label_classification", NAMES),
        ("regression", None),
    ],
)
def test_a_head_for_another_problem_is_none(problem, found):
    config = {"architectures": ["BertForSequenceClassification"], "problem_type": problem}
    assert heads.labels(LABELS | config, heads.SEQUENCE, "single_label_classification") == found


@pytest.mark.parametrize("stated", [{}, {"num_labels": 1}, {"num_labels": 3}], ids=str)
def test_a_head_without_names_has_those_that_transformers_gives_it(tmp_path, stated):
    """transformers leaves its default, two labels, out of config.json."""
    BertConfig(architectures=["BertForSequenceClassification"]).save_pretrained(tmp_path)
    configure(tmp_path, **stated)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "id2label" not in config
    read = BertConfig.from_pretrained(tmp_path)
    assert heads.labels(config, heads.SEQUENCE) == [*read.id2label.values()]


def test_a_head_with_an_output_without_a_name_is_replaced_and_the_plan_says_so(tmp_path):
    write_model(tmp_path, "bert", "AutoModelForSequenceClassification", ("no", "yes"))
    configure(tmp_path, id2label={"0": "no", "2": "yes"}, label2id={"no": 0, "yes": 2})
    config = json.loads((tmp_path / "config.json").read_text())
    assert heads.labels(config, heads.SEQUENCE) is None
    assert heads.replaced(config, ["no", "yes"]) == "BertForSequenceClassification"
    network = heads.load(tmp_path, "text-classification", ["no", "yes"], None)
    heads.check_labels(network, ["no", "yes"], "finetune")


def test_one_output_is_no_head_where_one_of_the_labels_is_the_answer():
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    assert heads.labels(config, heads.SEQUENCE) == ["LABEL_0"]
    assert heads.labels(config, heads.SEQUENCE, fewest=2) is None


class Body(nn.Sequential):
    """A layer and a head."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 4), nn.Linear(4, 1))
        self.config = SimpleNamespace(num_labels=1)


def dtypes(network) -> list[torch.dtype]:
    """Return what each layer gives under autocast to bf16."""
    seen = []
    for layer in network:
        layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.ones(2, 4))
    return seen


def test_a_head_is_exact_under_autocast_and_the_body_is_not():
    network = Body()
    with heads.exact(network):
        assert dtypes(network) == [torch.bfloat16, torch.float32]
    assert dtypes(Body()) == [torch.bfloat16] * 2
    assert "forward" not in vars(network[1])
