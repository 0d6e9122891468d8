"""Bounds of a score: as wide as the rows require, with near 5 % false passes at the margin."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from rarefy.pipeline.measure.statistics import intervals, paired, scores
from rarefy.pipeline.tasks.classification.multi_label import MULTI_LABEL_CLASSIFICATION
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION, ClassScorer
from rarefy.pipeline.tasks.regression.task import REGRESSION
from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.task import Scorer
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.pipeline.terms.interval import HALF_A_ROW


def _answers(labels, of=2):
    return np.where(np.arange(of) == np.asarray(labels)[:, None], 0.9, 0.1 / (of - 1))


def _table(both, gains, losses, neither):
    """The truth alternates between 0 and 1; the counts say which model is right."""
    ours = np.repeat([True, True, False, False], [both, gains, losses, neither])
    theirs = np.repeat([True, False, True, False], [both, gains, losses, neither])
    truth = np.arange(len(ours)) % 2
    return *(_answers(np.where(right, truth, 1 - truth)) for right in (ours, theirs)), truth


def test_accuracy_has_tango_s_interval_and_half_a_row_more_on_the_bounds_of_a_budget():
    found = scores.compare(TEXT_CLASSIFICATION, "accuracy", *_table(900, 20, 30, 50), 0)
    assert found.difference == intervals.paired_difference(20, 30, 1000)
    plain = intervals.paired_difference(20, 30, 1000, 0.90)
    assert 0.0004 < plain.low - found.difference90.low < 0.0006  # half of a thousandth
    assert 0.0004 < found.difference90.high - plain.high < 0.0006


def test_a_row_s_kind_drawn_at_once_is_the_bootstrap_of_rows():
    """The distribution equals that of drawing rows: same quantiles up to sampling noise."""
    ours, theirs, truth = _table(2600, 90, 150, 160)
    pair = [formulas.macro_f1(side, truth) for side in (ours, theirs)]
    rows = len(truth)
    weights = np.random.default_rng(1).multinomial(rows, np.full(rows, 1 / rows), 2000)
    whole = [float(score(np.ones((1, rows)))[0]) for score in pair]
    by_row = intervals.paired(*(score(weights.astype(float)) for score in pair), whole)
    found = scores.compare(TEXT_CLASSIFICATION, "macro_f1", ours, theirs, truth, 0)
    assert found.difference.value == pytest.approx(by_row.difference.value)
    for one, other in zip(found.ratio, by_row.ratio, strict=True):
        assert one == pytest.approx(other, abs=0.002)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_models_that_never_differ_are_not_known_to_be_equal(name):
    found = scores.compare(TEXT_CLASSIFICATION, name, *_table(27, 0, 0, 3), 0)
    for bounds in (found.difference, found.difference90):
        # In 8 % of samples, a true loss of 8 % does not show in 30 rows: 0.92**30 = 0.08.
        assert bounds.value == 0
        assert bounds.low < -0.08
    assert found.ratio90.low < 1 - 0.08 / 0.9


@pytest.mark.parametrize("name", ["macro_f1", "ece"])
def test_thirty_right_answers_do_not_prove_a_perfect_score(name):
    truth = np.arange(30) % 2
    certain = np.eye(2)[truth]
    found = scores.alone(TEXT_CLASSIFICATION, name, certain, truth, 0)
    unsure = 1 - binomtest(30, 30).proportion_ci(0.95, method="wilson").low
    if name == "ece":
        assert (found.value, found.low) == (0, 0)
        assert found.high == pytest.approx(unsure, abs=1e-6)
    else:
        weight = 30 * (1 - (28 / 29 + 30 / 31) / 2)  # of one flip, after which 14 and 15 are found
        assert (found.value, found.high) == (1, 1)
        assert found.low == pytest.approx(1 - weight * unsure, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_a_drop_of_just_the_margin_passes_at_most_every_twentieth_time(name):
    """With balanced classes and equal mistakes in both, macro F1 drops as accuracy does."""
    generator = np.random.default_rng(0)
    passed, trials, margin = 0, 400, 0.02
    for trial in range(trials):
        counts = generator.multinomial(1000, [0.85, 0.02, 0.04, 0.09])
        found = scores.compare(TEXT_CLASSIFICATION, name, *_table(*counts), trial)
        passed += intervals.non_inferiority(found.difference90, margin) == "pass"
    assert passed / trials < 0.05 + 3 * 0.011
    assert passed  # a budget that never passes would be useless too


def test_three_right_answers_do_not_prove_that_a_rare_label_is_kept():
    """If all rows of a label of 3 % are lost, one of 100 rows shows it in 95 of 100 samples."""
    truth = np.array([0] * 97 + [1] * 3)
    found = scores.compare(TEXT_CLASSIFICATION, "macro_f1", *2 * [_answers(truth)], truth)
    assert found.difference90.low < -0.2  # F1 of the rare label is half of macro F1
    assert found.ratio90.low < 0.8
    assert scores.alone(TEXT_CLASSIFICATION, "macro_f1", _answers(truth), truth).low < 0.8
    even = np.arange(100) % 2
    found = scores.compare(TEXT_CLASSIFICATION, "macro_f1", *2 * [_answers(even)], even)
    exact = intervals.paired_difference(0, 0, 100, 0.90, HALF_A_ROW)
    assert found.difference90.low == pytest.approx(exact.low, abs=0.001)


def test_a_rare_label_that_is_lost_passes_at_most_every_twentieth_time():
    """The candidate gives 30 % of the rows of a label of 3 % another one, and no other row."""
    generator = np.random.default_rng(0)
    passed, covered, trials, drop = 0, 0, 300, 0.5 - 0.5 * 1.4 / 1.7 + 0.5 - 0.97 / (1.94 + 0.009)
    for trial in range(trials):
        truth = np.repeat([0, 1], generator.multinomial(100, [0.97, 0.03]))
        ours = np.where(generator.random(100) < 0.3, 0, truth)
        sides = _answers(ours), _answers(truth)
        found = scores.compare(TEXT_CLASSIFICATION, "macro_f1", *sides, truth, trial)
        passed += intervals.non_inferiority(found.difference90, drop) == "pass"
        covered += found.difference.low <= -drop <= found.difference.high
    assert passed / trials < 0.05 + 3 * 0.0126
    assert covered / trials > 0.95 - 3 * 0.0126


def test_a_rare_one_of_several_labels_of_a_row_is_not_known_to_be_kept_either():
    """Two labels are frequent; the candidate misses a third in 30 % of its few rows."""
    generator = np.random.default_rng(0)
    passed, trials, rows, drop = 0, 150, 100, (1 - 2 * 0.7 / 1.7) / 3
    for trial in range(trials):
        truth = generator.random((rows, 3)) < [0.5, 0.4, 0.03]
        ours = truth & ((generator.random((rows, 1)) > 0.3) | [True, True, False])
        sides = [np.hstack([np.where(side, 0.9, 0.1), side]) for side in (ours, truth)]
        task, flags = MULTI_LABEL_CLASSIFICATION, truth.astype(int).tolist()
        found = scores.compare(task, "macro_f1", *sides, flags, trial)
        passed += intervals.non_inferiority(found.difference90, drop) == "pass"
    assert passed / trials < 0.05 + 3 * 0.0178


def test_a_reference_without_a_right_answer_gives_no_ratio():
    found = scores.compare(TEXT_CLASSIFICATION, "accuracy", *_table(0, 10, 0, 90), 0)
    assert not np.isfinite(found.ratio90.value)


def test_words_of_a_sentence_and_rows_of_a_query_agree_no_surer_than_their_blocks():
    """Blocks differ as a whole here, so their number counts: the interval of 95 of 100."""
    differs = np.repeat(np.arange(100) < 5, 20)
    exact = binomtest(95, 100).proportion_ci(0.95, method="exact")
    tags = [{"tags": [0] * 20} for _ in range(100)]
    words = [_answers(side) for side in (differs.astype(int), np.zeros(2000, int))]
    ranks = np.tile(np.arange(20.0), 100)
    scored = [(ranks + 1000 * differs)[:, None], ranks[:, None]]
    queries = [[0.0, at // 20] for at in range(2000)]
    for task, sides, truth in (
        (TOKEN_CLASSIFICATION, words, [tags[0] | {"names": ["O", "B-X"]}, *tags[1:]]),
        (REGRESSION, scored, queries),
    ):
        found = scores.agreement(task, *sides, truth)
        assert found.value == pytest.approx(0.95)
        assert found.low == pytest.approx(exact.low, abs=0.012)
        assert found.high == pytest.approx(exact.high, abs=0.012)
    rows = scores.agreement(TEXT_CLASSIFICATION, *words, np.zeros(2000, int))
    assert rows == intervals.wilson(1900, 2000)


class Uncounted(ClassScorer):
    """The same scorer, as if its scores did not count rows, and it said no more of them."""

    counted = False
    missed_labels = Scorer.missed_labels


UNCOUNTED = replace(TEXT_CLASSIFICATION, scorer=Uncounted())


def test_scores_that_count_no_rows_have_the_intervals_of_blocks():
    ours, theirs, truth = _table(180, 6, 2, 12)
    found = scores.compare(UNCOUNTED, "macro_f1", ours, theirs, truth)
    score = [formulas.macro_f1(side, truth) for side in (ours, theirs)]
    assert found == paired.compare(*score, 200)
    alone = scores.alone(UNCOUNTED, "macro_f1", ours, truth)
    assert alone.value == pytest.approx(paired.alone(score[0], 200).value)
    assert 0 <= alone.low < alone.value < alone.high <= 1


def test_a_share_stays_between_0_and_1():
    ours, _, truth = _table(60, 0, 0, 0)
    assert scores.alone(UNCOUNTED, "macro_f1", ours, truth).high == 1


@pytest.mark.parametrize(("name", "ends"), [("pearson", (-1, 1)), ("mse", (0, math.inf))])
def test_no_bound_is_a_value_that_a_score_cannot_have(name, ends):
    truth = np.linspace(0, 1, 9)
    for outputs in (truth, -truth, np.where(truth > 0.9, 5.0, truth)):
        found = scores.alone(REGRESSION, name, outputs[:, None], truth.tolist())
        assert ends[0] <= found.low <= found.value <= found.high <= ends[1]


GROUPS = np.repeat(np.arange(60), 10)
"""Sixty documents of ten rows."""


def _by_document(generator, gained, lost):
    """Whole documents that only one model has right; the reference is right in nine of ten."""
    share = np.array([gained, lost, 0.9 - lost, 0.1 - gained])
    kind = generator.choice(4, size=60, p=share)[GROUPS]
    ours, theirs = np.isin(kind, [0, 2]), np.isin(kind, [1, 2])
    truth = np.arange(len(kind)) % 2
    return *(_answers(np.where(right, truth, 1 - truth)) for right in (ours, theirs)), truth


@pytest.mark.slow
def test_a_few_large_groups_may_hide_the_loss_of_one_more():
    """Sizes as those of users, whole groups lost: without regard to the sizes, 17 % passed."""
    generator, passes = np.random.default_rng(1), 0
    for trial in range(100):
        sizes = np.maximum(1, np.round(10 * np.exp(1.5 * generator.standard_normal(100))))
        groups = np.repeat(np.arange(100), sizes.astype(int))
        ours = ~(generator.random(100) < 0.05)[groups]
        truth = np.zeros(len(groups), dtype=int)
        sides = _answers(np.where(ours, 0, 1)), _answers(truth)
        found = scores.compare(
            TEXT_CLASSIFICATION, "accuracy", *sides, truth, trial, groups.tolist()
        )
        passes += intervals.non_inferiority(found.difference90, 0.05) == "pass"
    assert passes <= 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_rows_of_a_group_that_flip_together_are_no_independent_rows(name):
    """A true drop of just the margin passes in a third of the trials if they are taken for that."""
    generator, passes = np.random.default_rng(5), {"groups": 0, "rows": 0}
    for trial in range(100):
        rows = _by_document(generator, 0.02, 0.07)
        for kind, groups in (("groups", GROUPS.tolist()), ("rows", ())):
            found = scores.compare(TEXT_CLASSIFICATION, name, *rows, trial, groups)
            passes[kind] += intervals.non_inferiority(found.difference90, 0.05) == "pass"
    assert passes["groups"] <= 8
    assert passes["rows"] >= 20


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "ece"])
def test_a_score_of_groups_is_less_sure_than_one_of_as_many_rows(name):
    ours, _, truth = _by_document(np.random.default_rng(1), 0.02, 0.07)
    rows = scores.alone(TEXT_CLASSIFICATION, name, ours, truth, 0)
    groups = scores.alone(TEXT_CLASSIFICATION, name, ours, truth, 0, GROUPS.tolist())
    assert rows.value == pytest.approx(groups.value)
    if name != "ece":  # whose interval is mostly the bias of an error
        assert groups.high - groups.low > 2 * (rows.high - rows.low)
    assert groups.low < rows.low
    assert groups.high > rows.high or groups.high == 1


def test_agreement_and_divergence_of_groups_too():
    ours, theirs, truth = _by_document(np.random.default_rng(1), 0.02, 0.07)
    for found in (
        [scores.agreement(TEXT_CLASSIFICATION, ours, theirs, truth, 0, g) for g in ((), GROUPS)],
        [scores.divergence(TEXT_CLASSIFICATION, ours, theirs, 0, g) for g in ((), GROUPS)],
    ):
        rows, groups = found
        assert rows.value == pytest.approx(groups.value)
        assert groups.high - groups.low > 2 * (rows.high - rows.low)


def test_the_chance_of_a_change_counts_groups():
    right = np.ones(600, dtype=bool)
    lost = right.copy()
    lost[:30] = False  # three documents
    assert scores.chance(lost, right) < 1e-8
    assert scores.chance(lost, right, GROUPS.tolist()) == 0.25
    singly = np.arange(600).tolist()
    assert scores.chance(lost, right, singly) == pytest.approx(scores.chance(lost, right))
    rows, groups = scores.difference(lost, right), scores.difference(lost, right, GROUPS)
    assert rows.value == pytest.approx(groups.value)
    assert groups.low < rows.low < rows.high < groups.high


def test_one_large_group_outweighs_many_small_ones_that_went_the_other_way():
    groups = [0] * 50 + list(range(1, 16))
    ours = np.array([False] * 50 + [True] * 15)
    assert scores.difference(ours, ~ours, groups).value < 0
    assert scores.chance(ours, ~ours, groups) == 1.0, "fifteen better, one worse, in sum a loss"


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_groups_that_no_model_has_right_are_not_known_to_be_lost(name):
    truth = np.zeros(100, dtype=int)
    wrong, groups = _answers(1 - truth), (np.arange(100) // 5).tolist()
    assert scores.alone(TEXT_CLASSIFICATION, name, wrong, truth, 0, groups).high > 0.05
    found = scores.compare(TEXT_CLASSIFICATION, name, wrong, wrong, truth, 0, groups)
    assert found.difference90.low < -0.05


def test_bounds_are_differences_that_two_shares_can_have():
    groups = [0] * 60 + list(range(1, 41))
    ours = np.array([False] * 40 + [True] * 60)
    found = scores.difference(ours, ~ours, groups)
    assert -1 <= found.low < found.value < found.high <= 1


def _whole_rows(right):
    """Rows of three labels each; one of them is missed where the row is not ``right``."""
    truth = np.tile([1, 1, 1, 0], (len(right), 1))
    decided = truth * np.where(np.asarray(right)[:, None], 1, [1, 1, 0, 0])
    return np.hstack([0.1 + 0.8 * decided, decided]), truth.tolist()


def _tagged(right):
    """Sentences with one entity of two words."""
    rows = [1, 2, 0] if right else [1, 0, 0]
    truth = [{"tags": [1, 2, 0]} for _ in range(20)]
    truth[0]["names"] = ["O", "B-A", "I-A"]
    return _answers(20 * rows, 3), truth


def _searched(_):
    """Queries whose relevant row is the twelfth."""
    return np.tile(np.arange(12.0), 20)[:, None], [
        [float(at == 0), q] for q in range(20) for at in range(12)
    ]


@pytest.mark.parametrize(
    ("task", "name", "rows"),
    [
        (MULTI_LABEL_CLASSIFICATION, "subset_accuracy", _whole_rows([False] * 20)),
        (TOKEN_CLASSIFICATION, "entity_f1", _tagged(False)),
        (REGRESSION, "ndcg_10", _searched(False)),
        (REGRESSION, "mrr_10", _searched(False)),
    ],
)
def test_a_score_of_0_in_all_blocks_is_not_known_to_be_0(task, name, rows):
    """Of Clopper and Pearson, for 0 of 20."""
    answers, truth = rows
    found = scores.alone(task, name, answers, truth)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 20), abs=0.01)
    found = scores.compare(task, name, answers, answers, truth)
    assert found.difference90.low == pytest.approx(-(1 - 0.05 ** (1 / 20)), abs=0.01)
    assert found.difference90.high == pytest.approx(-found.difference90.low)


def test_a_drop_from_hardly_anything_to_nothing_is_not_taken_for_none():
    """The reference has one row of twenty wholly right: in one sample of five none of thirty."""
    generator, passes = np.random.default_rng(0), 0
    for trial in range(60):
        theirs, truth = _whole_rows(generator.random(30) < 0.05)
        ours, _ = _whole_rows([False] * 30)
        sides = MULTI_LABEL_CLASSIFICATION, "subset_accuracy", ours, theirs, truth
        passes += scores.compare(*sides, trial).difference90.low > -0.03
    assert passes <= 3


def test_a_rare_label_that_no_threshold_finds_is_not_known_to_be_lost():
    """Recall at few false positives is a share of the rows with the label, and five say little."""
    truth = (np.arange(100) < 5).astype(int)[:, None]
    probabilities = np.linspace(0, 1, 100)[:, None]
    answers = np.hstack([probabilities, truth])  # its threshold is not the score's
    rows = MULTI_LABEL_CLASSIFICATION, "recall_1_fpr", answers
    exact = 1 - 0.05 ** (1 / 5)
    assert scores.alone(*rows, truth.tolist()).high > exact
    assert scores.compare(*rows, answers, truth.tolist()).difference90.low < -exact


def test_queries_that_all_fail_but_for_one_say_little_of_the_next():
    """The best seen is a tenth, but the next may be found at once."""
    outputs, truth = _searched(False)
    outputs[0] = 2.5  # before all but nine
    found = scores.alone(REGRESSION, "mrr_10", outputs, truth)
    assert found.value == pytest.approx(1 / 200)
    assert found.high > 0.1
