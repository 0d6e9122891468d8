"""Metrics of one's own are loaded and tried before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.plan import check_budgets
from rarefy.pipeline.terms.errors import RecipeError
from tests.conftest import Workshop

ROOT = Path(__file__).parents[4]
VALIDATE: dict[str, Any] = {"validate": {"processes": 2}}
BUDGET = {"metric": "my_metrics:cost", "max": 0.5}
FINE = "return (predictions.argmax(axis=1) != labels).astype(float)"


def write(workshop: Workshop, body: str) -> None:
    source = f"import math\n\ndef cost(predictions, labels):\n    {body}\n"
    (workshop.folder / "my_metrics.py").write_text(source)


def refused(workshop: Workshop, budget: dict[str, Any] = BUDGET, **changes: Any) -> str:
    with pytest.raises(RecipeError) as error:
        workshop.open("finetune", "export", VALIDATE, budgets=[budget], **changes).plan.steps()
    return str(error.value)


def test_a_function_beside_the_recipe_is_a_metric(workshop: Workshop) -> None:
    write(workshop, FINE)
    run = workshop.open("finetune", "export", VALIDATE, budgets=[BUDGET])
    run.plan.steps()
    [budget] = run.plan.budgets
    assert budget.own is not None
    assert budget.own.name == "my_metrics:cost"


def test_other_code_is_another_metric(workshop: Workshop) -> None:
    codes = []
    for body in (FINE, FINE + "  # the same"):
        write(workshop, body)
        [budget] = workshop.open("finetune", "export", VALIDATE, budgets=[BUDGET]).plan.budgets
        assert budget.own is not None
        codes.append(budget.own.code)
    assert codes[0] != codes[1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return labels * math.nan", "the metric my_metrics:cost returned NaN or infinity"),
        ("return predictions", "returned an array of shape (12, 2) for 12 rows"),
        ("return predictions[:, 2]", "the metric my_metrics:cost raised IndexError"),
        ("return math.sqrt(-1)", "the metric my_metrics:cost raised ValueError"),
        ("return undefined", "the metric my_metrics:cost raised NameError"),
    ],
)
def test_a_function_that_cannot_be_a_metric_is_refused(
    workshop: Workshop, body: str, said: str
) -> None:
    write(workshop, body)
    message = refused(workshop)
    assert "budgets[0].metric" in message
    assert said in message
    assert "\n" not in message


def test_one_number_that_takes_long_is_refused(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workshop, "return float((predictions.argmax(axis=1) == labels).mean())")
    monkeypatch.setattr(check_budgets, "LONGEST", 0.0)
    assert "intervals need 4,000 calls a model; let it return one number" in refused(workshop)
    write(workshop, FINE)
    workshop.open("finetune", "export", VALIDATE, budgets=[BUDGET]).plan.steps()


def test_a_function_that_is_missing_is_refused(workshop: Workshop) -> None:
    write(workshop, FINE)
    said = refused(workshop, BUDGET | {"metric": "my_metrics:price"})
    assert "metric my_metrics:price cannot be loaded: AttributeError" in said


def test_without_labels_there_is_none(workshop: Workshop) -> None:
    write(workshop, FINE)
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "label": None}
    assert "my_metrics:cost needs labels, but data.label is null" in refused(workshop, data=data)


@pytest.mark.parametrize("task", ["token-classification", "sentence-embeddings"])
def test_a_task_without_one_prediction_a_row_has_none(workshop: Workshop, task: str) -> None:
    write(workshop, FINE)
    said = refused(workshop, task=task)
    assert f"a metric of one's own gets one prediction for each row; {task} has others" in said


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "recall_90_precision"])
def test_a_ranking_of_labels_is_of_tasks_with_labels(workshop: Workshop, metric: str) -> None:
    budget = {"metric": metric, "min": 0.5}
    run = workshop.open("finetune", "export", VALIDATE, budgets=[budget])
    run.plan.steps()
    notes = [note for note in run.plan.warnings if note.startswith(f"{metric}: of the label")]
    assert len(notes) == (metric != "auroc")
    assert f"token-classification has no {metric}" in refused(
        workshop, budget, task="token-classification"
    )


def test_without_code_its_name_is_told(workshop: Workshop) -> None:
    write(workshop, "raise SystemExit")
    path = workshop.recipe("finetune", "export", VALIDATE, budgets=[BUDGET])
    assert recipes.check_form(path) == ["my_metrics:cost"]


def test_the_metric_of_the_page_is_one(workshop: Workshop) -> None:
    page = (ROOT / "docs/how-to/set-budgets.md").read_text()
    (code,) = re.findall(r"```python\n# costs\.py\n(.*?)```", page, re.DOTALL)
    (workshop.folder / "costs.py").write_text(code)
    budgets = [
        {"metric": "costs:cost", "max": 0.8},
        {"metric": "costs:cost", "max_increase": 0.05, "against": "finetune"},
    ]
    run = workshop.open("finetune", "export", VALIDATE, budgets=budgets)
    run.plan.steps()
    own = run.plan.budgets[0].own
    assert own is not None
    predictions = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.7, 0.3]])
    assert own.function(predictions, np.array([0, 1, 0, 1])).tolist() == [0, 50, 1, 0]
