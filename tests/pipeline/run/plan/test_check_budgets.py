"""Budgets that cannot be judged are refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from rarefy.pipeline.run import checks
from rarefy.pipeline.tasks.classification.text import ClassScorer
from rarefy.pipeline.terms.errors import RecipeError
from tests.conftest import Workshop, labelled_rows
from tests.models import LABELS

VALIDATE: dict[str, Any] = {"validate": {"processes": 2}}
ROWS = labelled_rows(40, 3)


def refused(workshop: Workshop, budget: dict[str, Any], *stages: Any) -> str:
    run = workshop.open(*stages, budgets=[budget])
    with pytest.raises(RecipeError) as error:
        run.plan.steps()
    return str(error.value)


def test_a_model_without_a_head_is_no_reference(workshop: Workshop) -> None:
    budget = {"metric": "accuracy", "max_drop": "1 point", "against": "model"}
    said = refused(workshop, budget, "finetune", "export", VALIDATE)
    assert "'model' is not measured as a reference; measured are: finetune" in said


def test_a_teacher_on_a_branch_of_its_own_is_a_reference_if_it_is_named(workshop: Workshop) -> None:
    budget = {"metric": "accuracy", "max_drop": "1 point", "against": "big"}
    chain: list[Any] = [
        {"finetune": {"epochs": 2}, "as": "big"},
        {"finetune": {"epochs": 1}, "as": "small", "from": "model"},
        {"adapt": {"teacher": "big"}},
        *("merge", "export"),
    ]
    said = refused(workshop, budget, *chain, VALIDATE)
    assert "'big' is not measured as a reference; measured are: merge, small" in said
    assert said.endswith("name it in the 'models' of validate")
    named = {"validate": {"processes": 2, "models": ["big", "small"]}}
    workshop.open(*chain, named, budgets=[budget]).plan.steps()


def test_a_budget_that_nothing_measures_is_refused(workshop: Workshop) -> None:
    budget = {"metric": "size", "max": "1 MB"}
    assert "no 'validate' stage measures the budgets" in refused(
        workshop, budget, "finetune", "export"
    )


def test_an_adapter_s_memory_needs_an_adapter_in_a_file(workshop: Workshop) -> None:
    budget = {"metric": "adapter_memory", "max": "20 MB"}
    teacher, adapter = "finetune", {"adapt": {"epochs": 1}}
    said = refused(workshop, budget, teacher, adapter, "merge", "export", VALIDATE)
    assert "adapter_memory needs an adapter in a file: 'adapt', and no 'merge' after it" in said
    workshop.open(teacher, adapter, "export", VALIDATE, budgets=[budget]).plan.steps()
    smaller = {"metric": "adapter_memory", "min_shrink": "2x", "against": "finetune"}
    said = refused(workshop, smaller, teacher, adapter, "export", VALIDATE)
    assert "'finetune' has no adapter in a file; compare with a tag, or give max" in said


def test_a_score_that_the_task_does_not_have_is_refused(workshop: Workshop) -> None:
    budget = {"metric": "spearman", "min": 0.5}
    said = refused(workshop, budget, "finetune", "export", VALIDATE)
    assert "text-classification has no spearman for such data; its scores are accuracy," in said


def test_agreement_is_compared_with_a_baseline_only_if_it_is_the_score(workshop: Workshop) -> None:
    budget = {"metric": "agreement", "max_drop": "1 point", "against": "finetune"}
    said = refused(workshop, budget, "finetune", "export", VALIDATE)
    assert "agreement is with a reference already, unless data.label is null; use 'min'" in said


def test_a_search_has_no_spearman(workshop: Workshop) -> None:
    rows = [{"a": "warm", "b": "x"}]
    for name, found in (("train", rows), ("eval", rows), ("corpus", [{"id": "x", "text": "y"}])):
        workshop.write_rows(f"{name}.jsonl", found)
    files = {"train": "train.jsonl", "eval": "eval.jsonl", "corpus": "corpus.jsonl"}
    run = workshop.open(
        *("export", VALIDATE),
        task="sentence-embeddings",
        data=files | {"text": ["a", "b"], "label": None},
        budgets=[{"metric": "spearman", "min": 0.5}],
    )
    with pytest.raises(RecipeError, match="its scores are ndcg_10, recall_10, mrr_10"):
        run.plan.steps()


def test_answers_that_are_no_probabilities_have_no_divergence(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClassScorer, "probable", False)
    said = refused(workshop, {"metric": "kl", "max": 0.1}, "finetune", "export", VALIDATE)
    assert "predictions of text-classification are not probabilities, so they have no kl" in said


def test_cold_caches_of_a_gpu_are_no_budget(workshop: Workshop) -> None:
    """They are not emptied; those of another target may be."""
    budget = {"metric": "latency_p50", "max": "5 ms", "caches": "cold"}
    targets = [{"name": "cpu"}, {"name": "gpu", "provider": "cuda"}]
    run = workshop.open("finetune", "export", VALIDATE, budgets=[budget], targets=targets)
    with pytest.raises(RecipeError, match=r"budgets\[0\]\.caches: the target 'gpu' has its model"):
        run.plan.steps()
    named = [budget | {"target": "cpu"}]
    workshop.open("finetune", "export", VALIDATE, budgets=named, targets=targets).plan.steps()


@pytest.mark.parametrize(
    ("task", "ours"),
    [("text-classification", "macro_f1"), ("token-classification", "entity_f1")],
)
def test_a_metric_is_answered_with_that_of_the_task(
    workshop: Workshop, task: str, ours: str
) -> None:
    run = workshop.open("export", VALIDATE, task=task, budgets=[{"metric": "f1", "min": 0.5}])
    with pytest.raises(RecipeError, match=f"f1 is of one label: give .*, did you mean '{ours}'"):
        run.plan.steps()


SLICED = {"train": "train.jsonl", "eval": "eval.jsonl", "slices": ["language"]}


@pytest.fixture
def sliced(workshop: Workshop) -> Workshop:
    rows = [row | {"language": "de" if at % 2 else "en"} for at, row in enumerate(ROWS)]
    workshop.write_rows("eval.jsonl", rows)
    return workshop


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"metric": "recall", "label": "positve"}, "'positve' is not a label, did you mean 'posi"),
        ({"metric": "accuracy", "slice": "langage=de"}, "is not one of data.slices, did you mean"),
        ({"metric": "accuracy", "slice": "language=dee"}, "no eval row has 'dee' in 'language', d"),
        ({"metric": "kl", "slice": "language=de"}, "kl is of all rows; a slice has accuracy, mac"),
    ],
)
def test_a_label_or_slice_that_no_row_has_is_told_the_near_name(
    sliced: Workshop, budget: dict[str, Any], says: str
) -> None:
    limit = {"max": 0.5} if budget["metric"] == "kl" else {"min": 0.5}
    run = sliced.open("finetune", "export", VALIDATE, data=SLICED, budgets=[budget | limit])
    with pytest.raises(RecipeError) as error:
        run.plan.steps()
    assert says in str(error.value)
    assert str(error.value).startswith(f"{sliced.folder / 'trial.yaml'}:")


def test_labels_and_slices_that_rows_have_are_planned(sliced: Workshop) -> None:
    budgets = [
        {"metric": "recall", "label": LABELS[0], "min": 0.5},
        {"metric": "f1", "label": "*", "min": 0.5},
        {"metric": "accuracy", "slice": "language=*", "min": 0.5},
        {"metric": "macro_f1", "slice": "language=de", "min": 0.5},
    ]
    plan = sliced.open("finetune", "export", VALIDATE, data=SLICED, budgets=budgets).plan
    plan.steps()
    assert plan.summary.slices == {"language": {"en": 20, "de": 20}}
    assert sum(plan.summary.marked.values()) == 40


def test_a_task_without_labels_has_no_budget_on_one(workshop: Workshop) -> None:
    workshop.write_rows("train.jsonl", [{"text": f"w{at}", "label": at / 9} for at in range(40)])
    workshop.write_rows("eval.jsonl", [{"text": f"v{at}", "label": at / 9} for at in range(40)])
    budget = {"metric": "recall", "label": "a", "min": 0.5}
    run = workshop.open("finetune", "export", VALIDATE, task="regression", budgets=[budget])
    with pytest.raises(RecipeError, match="regression has no labels"):
        run.plan.steps()


EVERY = {"metric": "accuracy", "slice": "language=*", "max_drop": "3 points", "against": "finetune"}


def test_a_column_of_rare_values_alone_has_no_cells(workshop: Workshop) -> None:
    rows = [row | {"language": f"l{at % 4}"} for at, row in enumerate(ROWS)]
    workshop.write_rows("eval.jsonl", rows)
    run = workshop.open("finetune", "export", VALIDATE, data=SLICED, budgets=[EVERY])
    with pytest.raises(RecipeError, match=r"slice: no value of 'language' has 20 eval rows, so al"):
        run.plan.steps()
    named = [EVERY | {"slice": "language=l1"}]
    workshop.open("finetune", "export", VALIDATE, data=SLICED, budgets=named).plan.steps()


def test_rare_values_that_are_judged_together_are_warned_of(workshop: Workshop) -> None:
    languages = ["en"] * 24 + ["de"] * 10 + ["fr"] * 6
    rows = [row | {"language": name} for row, name in zip(ROWS, languages, strict=True)]
    workshop.write_rows("eval.jsonl", rows)
    plan = workshop.open("finetune", "export", VALIDATE, data=SLICED, budgets=[EVERY]).plan
    plan.steps()
    expected = (
        "language=*: 2 values with fewer than 20 eval rows are judged together as (rare), 16 rows"
    )
    assert expected in plan.warnings


def test_of_copies_of_rows_no_cell_s_need_is_foretold(sliced: Workshop) -> None:
    """They are one group, but each is counted for its cell."""
    chain = ("finetune", "export", VALIDATE)
    plan = sliced.open(*chain, data=SLICED, budgets=[EVERY]).plan
    [need] = checks.needed_rows(plan, None)
    assert need.rows == 20
    path = sliced.folder / "eval.jsonl"
    path.write_text(2 * path.read_text())
    plan = sliced.open(*chain, data=SLICED, budgets=[EVERY]).plan
    assert (plan.summary.different, plan.summary.rows["eval"]) == (40, 80)
    assert checks.needed_rows(plan, None) == []
