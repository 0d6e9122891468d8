"""Before the run, a plan says which labels and slices have too few rows for their budget."""

import numpy as np
import pytest
from scipy.stats import binomtest

from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.verdict import power
from rarefy.pipeline.verdict.cell_scores import Cell
from tests.pipeline.verdict.measured import Budget
from tests.pipeline.verdict.test_cells import measured

MARKED = {"a": 5000, "b": 700, "c": 40}
BY_COLUMN = {"language": {"de": 900, "en": 9000, **{f"x{number}": 5 for number in range(8)}}}
EVERY = Budget(metric="recall", label="*", max_drop="2 points", against="finetune")


def test_cells_with_too_few_rows_are_named_the_fewest_first():
    [need] = power.cell_needs([EVERY, Budget(metric="size", max="1 MB")], MARKED, BY_COLUMN)
    usual = power.rows_needed(0.02, power.DISAGREEMENT)
    assert need.by_cell == {name: (rows, usual) for name, rows in MARKED.items()}
    assert (need.rows, need.needed, need.enough) == (40, usual, False)
    assert need.text == (
        "recall (label=*) max_drop against finetune: a margin of 2.00 points needs about "
        f"{usual:,} eval rows (assuming that 8% of the predictions differ); expect 'inconclusive' "
        f"for 2 of 3 cells: c has 40 of about {usual:,}, b has 700 of about {usual:,}"
    )


def test_rare_values_of_a_column_are_one_cell_unless_a_budget_names_one():
    every = EVERY.model_copy(update={"metric": "accuracy", "label": None, "slice": "language=*"})
    assert power.cell_count(every, MARKED, BY_COLUMN) == {"de": 900, "en": 9000, "(rare)": 40}
    named = every.model_copy(update={"slice": "language=x3"})
    assert power.cell_count(named, MARKED, BY_COLUMN) == {"x3": 5}


@pytest.mark.parametrize("limit", [0.8, 0.9, 0.95, 0.99])
def test_a_floor_needs_the_rows_with_which_all_right_would_pass(limit):
    [need] = power.cell_needs([Budget(metric="recall", label="c", min=limit)], MARKED, {})

    def least(rows):
        return binomtest(rows, rows).proportion_ci(method="wilson").low

    assert least(need.needed) >= limit > least(need.needed - 1)
    assert "even if all are right" in need.text


def test_the_last_run_tells_what_each_cell_needs():
    truth = np.repeat([0, 1], [600, 400])
    ours = truth.copy()
    ours[:60] = 1
    ours[60:120] = 2
    theirs = truth.copy()
    theirs[30:90] = 1
    earlier = measured(truth, ours, theirs)
    [need] = power.cell_needs([EVERY], {"a": 600, "b": 400}, {}, earlier)
    flips = np.mean((ours[:600] == 0) != (theirs[:600] == 0))
    assert need.by_cell["a"] == (600, power.rows_needed(0.02, flips))
    assert need.by_cell["b"] == (400, power.rows_needed(0.02, 0.0))
    assert "by what differed in the last run" in need.text
    gone = EVERY.model_copy(update={"against": "production"})
    [need] = power.cell_needs([gone], {"a": 600}, {}, earlier)
    assert need.by_cell["a"] == (600, power.rows_needed(0.02, power.DISAGREEMENT))


def test_a_score_alone_needs_the_rows_that_narrow_its_interval_to_the_limit():
    budget = Budget(metric="f1", label="a", min=0.8)
    cell = Cell("a", 100, Interval(0.9, 0.7, 0.95))
    assert power.cell_rows_needed(budget, cell) == pytest.approx(400, abs=1)
    below = Cell("a", 100, Interval(0.75, 0.65, 0.85))
    assert power.cell_rows_needed(budget, below) == pytest.approx(400, abs=1)
    assert power.cell_rows_needed(budget, Cell("a", 100, Interval(0.8, 0.7, 0.9))) is None
    assert power.cell_rows_needed(budget, Cell("a", 0, None)) is None


def test_of_groups_and_of_scores_that_count_no_rows_nothing_is_foretold():
    assert power.cell_needs([EVERY], MARKED, {}, independent=False) == []
    fields = {"metric": "macro_f1", "label": None, "slice": "language=*"}
    assert power.cell_needs([EVERY.model_copy(update=fields)], MARKED, BY_COLUMN) == []
    truth = np.repeat([0, 1], [600, 400])
    ours = truth.copy()
    ours[:60] = 1
    earlier = measured(truth, ours, truth, groups=(np.arange(1000) // 10).tolist())
    [need] = power.cell_needs([EVERY], {"a": 600}, {}, earlier, independent=False)
    rows, needed = need.by_cell["a"]
    assert rows == 600
    assert needed > 600, "in rows, as the plan counts them, not in groups of ten"


def test_a_floor_of_a_score_that_is_no_share_of_rows_has_no_need():
    fields = {"slice": "language=*", "min": 0.9}
    assert power.cell_needs([Budget(metric="auroc", **fields)], MARKED, BY_COLUMN) == []
    [need] = power.cell_needs([Budget(metric="accuracy", **fields)], MARKED, BY_COLUMN)
    assert need.needed > 30
