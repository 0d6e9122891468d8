"""A model that is not significantly better than the most frequent label has learned nothing."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.measure.predictions import floor
from rarefy.pipeline.tasks.classification.multi_label import MULTI_LABEL_CLASSIFICATION
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.embeddings import search
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.regression.task import REGRESSION
from rarefy.pipeline.tasks.task import count_predictions
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION

TRUTH = [0] * 60 + [1] * 40


def answering(right: int) -> np.ndarray:
    """Return answers of which the first ``right`` are right."""
    answers = np.eye(2)[TRUTH]
    answers[right:] = answers[right:, ::-1]
    return answers


@pytest.mark.parametrize(("right", "nothing"), [(60, True), (65, True), (72, False), (100, False)])
def test_the_low_end_of_accuracy_decides(right: int, nothing: bool) -> None:
    """Wilson's interval of 65 of 100 begins at 55.3 %, that of 72 at 62.5 %; the floor is 60 %."""
    said = floor.learned_nothing(TEXT_CLASSIFICATION, answering(right), TRUTH)
    assert (said is not None) is nothing
    if said is not None:
        assert said.startswith(f"is no better than a trivial baseline: its accuracy of {right}.0%")
        assert said.endswith("is not significantly above the 60.0% of the most frequent label")


def test_the_floor_is_scikit_learns_most_frequent() -> None:
    from sklearn.dummy import DummyClassifier

    texts = np.zeros((len(TRUTH), 1))
    dummy = DummyClassifier(strategy="most_frequent").fit(texts, TRUTH)
    assert TEXT_CLASSIFICATION.scorer.floor(TRUTH) == pytest.approx(dummy.score(texts, TRUTH))


def test_without_answers_or_truth_nothing_is_said() -> None:
    assert floor.learned_nothing(TEXT_CLASSIFICATION, np.empty((0, 2)), TRUTH) is None
    assert floor.learned_nothing(TEXT_CLASSIFICATION, np.empty((0, 2)), []) is None


def test_scores_by_chance_have_learned_nothing() -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(size=200).tolist()
    said = floor.learned_nothing(REGRESSION, draw.normal(size=(200, 1)), truth)
    assert said is not None
    assert said.endswith("is not significantly above the 0 of equal scores")
    near = np.array(truth)[:, None] + draw.normal(size=(200, 1))
    assert floor.learned_nothing(REGRESSION, near, truth) is None


def test_a_search_that_is_no_better_than_bm25_has_not_learned_nothing() -> None:
    """Nobody can be significantly above a search by words that finds everything."""
    truth = [{"documents": [query], "bm25": 1.0} for query in range(60)]
    queries, documents = np.eye(60), np.eye(60)
    queries[0] = queries[1]
    found = search.by_cosine(queries, documents, [[query] for query in range(60)])
    said = floor.learned_nothing(SENTENCE_EMBEDDINGS, found, truth)
    assert said is not None
    assert said.startswith("is not significantly above BM25's 100.0%: its ndcg_10 is 98.")


@pytest.mark.parametrize(
    "names",
    [
        ("O", "B-A", "I-A", "B-C", "I-C"),
        ("O", "B-A", "I-A", "E-A", "S-A", "S-C"),
        ("O", "I-A", "I-C"),
        ("O", "street", "city"),
        ("O", "B", "I"),
    ],
)
def test_the_same_tag_for_every_word_is_the_best_such_answer(names: tuple[str, ...]) -> None:
    """Entity F1 is counted for each tag, sentence by sentence."""
    draw = np.random.default_rng(len(names))
    truth = [
        {"tags": draw.integers(0, len(names), draw.integers(1, 4)).tolist()} for _ in range(40)
    ]
    truth[0] |= {"names": list(names)}
    words, once = count_predictions(TOKEN_CLASSIFICATION, truth), np.ones((1, 40))
    f1 = TOKEN_CLASSIFICATION.scorer.scores["entity_f1"]
    every = [np.tile(np.eye(len(names))[tag], (words, 1)) for tag in range(len(names))]
    best = max(float(f1(answers, truth)(once)[0]) for answers in every)
    assert TOKEN_CLASSIFICATION.scorer.floor(truth) == pytest.approx(best)
    assert best > 0


def test_a_tagger_that_finds_nothing_has_learned_nothing() -> None:
    truth = [{"tags": [0, 1, 2, 0]}] * 40
    truth[0] = truth[0] | {"names": ["O", "B-A", "I-A"]}
    nothing, all_right = np.eye(3)[[0] * 160], np.eye(3)[[0, 1, 2, 0] * 40]
    said = floor.learned_nothing(TOKEN_CLASSIFICATION, nothing, truth)
    assert said is not None
    assert said.endswith("is not significantly above the 0.0% of the same tag for every word")
    assert floor.learned_nothing(TOKEN_CLASSIFICATION, all_right, truth) is None
    assert TOKEN_CLASSIFICATION.scorer.floor([{"tags": [1, 1], "names": ["O", "A"]}]) is None


def test_a_ranking_is_compared_with_a_random_order() -> None:
    """One relevant row of twenty: the mean of 1/log2(1 + place) over the ten first places."""
    truth = [[float(row == 0), query] for query in range(50) for row in range(20)]
    gains = 1 / np.log2(1 + np.arange(1, 11))
    assert REGRESSION.scorer.floor(truth) == pytest.approx(gains.sum() / 20)


def test_the_same_labels_for_every_row_are_the_best_such_answer() -> None:
    from itertools import product

    from sklearn.metrics import f1_score

    truth = (np.random.default_rng(0).random((60, 4)) < [0.7, 0.5, 0.3, 0.1]).astype(int)
    best = max(
        f1_score(truth, np.tile(answer, (60, 1)), average="micro", zero_division=0)
        for answer in product((0, 1), repeat=4)
    )
    assert MULTI_LABEL_CLASSIFICATION.scorer.floor(truth.tolist()) == pytest.approx(best)


def test_few_groups_that_are_right_have_not_shown_more() -> None:
    """The 72 of 100 that decide above may be the luck of some documents."""
    documents = np.arange(100) // 20
    assert floor.learned_nothing(TEXT_CLASSIFICATION, answering(72), TRUTH) is None
    assert floor.learned_nothing(TEXT_CLASSIFICATION, answering(72), TRUTH, documents.tolist())
