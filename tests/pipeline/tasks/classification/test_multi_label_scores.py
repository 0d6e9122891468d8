"""Multi-label scores are scikit-learn's, on the rows repeated as often as their weights say."""

import time
import warnings

import numpy as np
import pytest
from sklearn import metrics

from rarefy.pipeline.tasks.classification import multi_label_scores


def answers(seed, rows=60, labels=4, levels=None):
    generator = np.random.default_rng(seed)
    truth = (generator.random((rows, labels)) < generator.uniform(0.1, 0.6, labels)).astype(int)
    probabilities = np.clip(0.3 * truth + generator.random((rows, labels)) * 0.7, 0, 1)
    if levels:
        probabilities = np.round(probabilities * levels) / levels
    return np.hstack([probabilities, probabilities >= 0.5]), truth


def sklearn_map(truth, probabilities):
    occurring = truth.any(axis=0)
    return np.mean(
        metrics.average_precision_score(
            truth[:, occurring], probabilities[:, occurring], average=None
        )
    )


def best_recall(truth, probabilities, budget):
    """The definition, threshold by threshold."""
    found = []
    for true, values in zip(truth.T, probabilities.T, strict=True):
        if true.any():
            recalls = [0.0]
            for threshold in values:
                flagged = values >= threshold
                if (flagged & (true == 0)).sum() <= budget * (true == 0).sum():
                    recalls.append(flagged[true == 1].mean())
            found.append(max(recalls))
    return np.mean(found)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [None, 5])
def test_weighted_scores_are_sklearn_s_on_repeated_rows(seed, levels):
    outputs, truth = answers(seed, labels=1 + seed, levels=levels)
    times = np.random.default_rng(seed).integers(0, 4, (3, len(truth)))
    labels = truth.shape[1]
    for weights in (np.ones((1, len(truth)), int), times):
        for row in weights:
            true, out = np.repeat(truth, row, axis=0), np.repeat(outputs, row, axis=0)
            said, decided = out[:, :labels], out[:, labels:].astype(int)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                binary = {"average": "micro"}, {"average": "macro"}
                if labels == 1:
                    micro = macro = metrics.f1_score(true, decided)
                else:
                    micro, macro = (metrics.f1_score(true, decided, **how) for how in binary)
            expected = {
                multi_label_scores.micro_f1: micro,
                multi_label_scores.macro_f1: macro,
                multi_label_scores.subset_accuracy: metrics.accuracy_score(true, decided),
                multi_label_scores.mean_average_precision: sklearn_map(true, said),
                multi_label_scores.recall_at(0.1): best_recall(true, said, 0.1),
                multi_label_scores.recall_at(0.0): best_recall(true, said, 0.0),
            }
            for formula, value in expected.items():
                found = formula(outputs, truth)(row[None].astype(float))
                assert found == pytest.approx([value]), formula


def test_macro_f1_is_over_labels_that_occur_or_are_given():
    outputs, truth = answers(3, labels=5)
    truth[:, [1, 2]] = 0
    outputs[:, 5 + 2] = 0
    how = {"average": "macro", "zero_division": np.nan}
    expected = metrics.f1_score(truth, outputs[:, 5:].astype(int), **how)
    assert multi_label_scores.macro_f1(outputs, truth)(np.ones((1, 60))) == pytest.approx(
        [expected]
    )


def test_the_recall_of_each_label_is_that_of_the_label_alone():
    outputs, truth = answers(3)
    truth[:, 2] = 0
    found = multi_label_scores.recalls_at(0.1, outputs, truth)
    ones = np.ones((1, len(truth)))
    for label in (0, 1, 3):
        alone = outputs[:, [label, 4 + label]], truth[:, [label]]
        assert found[label] == multi_label_scores.recall_at(0.1)(*alone)(ones)
    assert np.isnan(found[2])


def test_weights_need_not_be_whole():
    outputs, truth = answers(1)
    weights = np.random.default_rng(1).exponential(size=(2, len(truth)))
    score = multi_label_scores.mean_average_precision(outputs, truth)
    for found, row in zip(score(weights), weights, strict=True):
        expected = metrics.average_precision_score(truth, outputs[:, :4], sample_weight=row)
        assert found == pytest.approx(expected)


def test_a_label_that_never_occurs_has_no_average_precision_and_f1_zero():
    outputs, truth = answers(2)
    truth[:, 0] = 0
    ones = np.ones((1, len(truth)))
    left = multi_label_scores.mean_average_precision(outputs[:, [1, 2, 3, 5, 6, 7]], truth[:, 1:])
    assert multi_label_scores.mean_average_precision(outputs, truth)(ones) == left(ones)
    assert np.isnan(multi_label_scores.recall_at(0.1)(outputs[:, [0, 4]], truth[:, :1])(ones))
    f1 = metrics.f1_score(truth, outputs[:, 4:], average="macro", zero_division=0)
    assert multi_label_scores.macro_f1(outputs, truth)(ones) == pytest.approx([f1])
    nothing = np.zeros_like(truth)
    for formula in (multi_label_scores.micro_f1, multi_label_scores.mean_average_precision):
        assert np.isnan(formula(np.zeros_like(outputs), nothing)(ones)).all()


def test_one_percent_of_300_rows_is_three_rows():
    truth = np.array([[0]] * 300 + [[1]] * 10)
    values = np.array([0.9] * 3 + [0.1] * 297 + [0.8] * 10)[:, None]
    outputs = np.hstack([values, values > 0.5])
    ones = np.ones((1, 310))
    assert multi_label_scores.recall_at(0.01)(outputs, truth)(ones) == 1
    assert multi_label_scores.recall_at(0.0099)(outputs, truth)(ones) == 0


def test_a_row_answered_nan_is_wrong_and_ranks_last():
    truth = np.array([[1], [0], [1]])
    outputs = np.array([[np.nan, np.nan], [0.2, 0], [0.9, 1]])
    ones = np.ones((1, 3))
    assert multi_label_scores.subset_accuracy(outputs, truth)(ones) == pytest.approx([2 / 3])
    expected = metrics.average_precision_score(truth[:, 0], [-1, 0.2, 0.9])
    assert multi_label_scores.mean_average_precision(outputs, truth)(ones) == pytest.approx(
        [expected]
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [None, 6])
def test_no_threshold_has_a_higher_f1(seed, levels):
    outputs, truth = answers(seed, rows=25, levels=levels)
    probabilities = outputs[:, :4]
    chosen = multi_label_scores.thresholds(probabilities, truth)
    for label, threshold in enumerate(chosen):
        true, values = truth[:, label], probabilities[:, label]
        if not true.any():
            assert threshold == 0.5
            continue
        cuts = np.append(np.unique(values), 2.0)
        best = max(metrics.f1_score(true, values >= cut, zero_division=0) for cut in cuts)
        assert metrics.f1_score(true, values >= threshold) == pytest.approx(best)


def test_thresholds_stand_between_values_and_ties_go_to_the_one_nearest_to_one_half():
    probabilities = np.array([[0.9], [0.7], [0.2], [0.1]])
    assert multi_label_scores.thresholds(
        probabilities, np.array([[1], [1], [0], [0]])
    ) == pytest.approx([0.45])
    # F1 is 2/3 with one row flagged and with all four; 0.8 is nearer to 0.5 than 0.05.
    assert multi_label_scores.thresholds(
        probabilities, np.array([[1], [0], [0], [1]])
    ) == pytest.approx([0.8])
    assert multi_label_scores.thresholds(probabilities, np.zeros((4, 1), int)) == [0.5]
    assert multi_label_scores.thresholds(probabilities, np.ones((4, 1), int)) == pytest.approx(
        [0.05]
    )
    close = np.array([[0.3], [np.nextafter(0.3, 0)]])
    (cut,) = multi_label_scores.thresholds(close, np.array([[1], [0]]))
    assert (close >= cut).tolist() == [[True], [False]]


def gathered_map(outputs, truth, weights):
    """Mean average precision, from each draw's weights in the order of each label's values."""
    found = []
    for values, true in zip(outputs.T, truth.T, strict=False):
        order = np.argsort(-values)
        ordered, right = weights[:, order], true[order]
        positives = np.cumsum(ordered * right, axis=1)
        steps = ordered * right * positives / np.cumsum(ordered, axis=1)
        found.append(steps.sum(axis=1) / positives[:, -1])
    return np.mean(found, axis=0)


def test_draws_are_scored_faster_than_their_weights_are_ordered():
    """That took seconds for each label of some thousand rows, in CPU time."""
    outputs, truth = answers(0, rows=3000, labels=4)
    truth[np.arange(3000) % 10 > 0] = 0
    weights = np.random.default_rng(0).exponential(size=(300, 3000))
    score = multi_label_scores.mean_average_precision(outputs, truth)
    assert score(weights) == pytest.approx(gathered_map(outputs, truth, weights))

    def ordered():
        for values in outputs.T[:4]:
            np.cumsum(weights[:, np.argsort(-values)], axis=1)

    fastest = []
    for run in (lambda: score(weights), ordered):
        seconds = []
        for _ in range(3):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
        fastest.append(min(seconds))
    assert fastest[0] < fastest[1] / 2, fastest
