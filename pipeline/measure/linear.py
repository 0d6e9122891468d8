"""A linear model on the words of the same rows: whether a transformer pays at all.

TF-IDF of words and pairs of words (Salton & Buckley 1988) with a logistic regression, or a ridge
regression for scores, through scikit-learn. On topics it often comes within a point of a
transformer (Wang & Manning 2012, "Baselines and bigrams", ACL).
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.measure.measurements import Linear
from pipeline.stage import bag_of_words
from pipeline.stage.development import picked
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task
from pipeline.terms.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Inverse strengths of the regularization, of which the best on dev is taken."""
MOST = 100_000
"""Training rows at most."""
RARE = 1000
"""From this many rows on, what occurs in one row only is left out."""
FEATURES = 200_000
"""Words and pairs of words at most, the most frequent."""
SURE = 30.0
"""The logit of what was always so in the training rows."""
CALLS = 300
"""Timed calls."""


def measure(
    task: Task, train: Split, dev: Split, evaluated: Split, seed: int, progress: Progress = silent
) -> Linear:
    """Train the model on ``train``, choose its regularization on ``dev``, and answer ``evaluated``.

    The task must say what its ``linear`` form is. Its time is from text to answer, one row a call.
    """
    import numpy as np

    started = time.perf_counter()
    rows = np.random.default_rng(seed).permutation(len(train))[:MOST].tolist()
    texts, own = [_text(train, row) for row in rows], _targets(task, train, rows)
    vectors = _vectors(len(rows))
    try:
        words = vectors.fit_transform(texts)
    except ValueError:  # no word is in two rows, as of ids: nothing is left
        words = vectors.set_params(min_df=1).fit_transform(texts)
    held_out = vectors.transform([_text(dev, row) for row in range(len(dev))])
    truth = _targets(task, dev, range(len(dev)))
    best, least = None, np.inf
    for done, strength in enumerate(STRENGTHS):
        progress(done, len(STRENGTHS), "training the linear model")
        model = _model(task, strength, own).fit(words, own)
        loss = _loss(task, _outputs(task, model, held_out), truth)
        if loss < least:
            best, least = model, loss
    if task.head.chooses:
        chosen = task.head.choose(_outputs(task, best, held_out), dev)
        task = task.of_model(chosen)
    seconds = time.perf_counter() - started

    def answer(texts: Sequence[str]) -> NDArray[np.float64]:
        return task.head.predictions(_outputs(task, best, vectors.transform(texts)))

    asked = [_text(evaluated, row) for row in range(len(evaluated))]
    answers = answer(asked)
    times = []
    for text in [asked[place % len(asked)] for place in range(CALLS)]:
        before = time.perf_counter()
        answer([text])
        times.append(1000 * (time.perf_counter() - before))
    progress(len(STRENGTHS), len(STRENGTHS), "training the linear model")
    return Linear(
        size=len(pickle.dumps((vectors, best))),
        seconds=seconds,
        rows=len(rows),
        milliseconds=times,
        answers=answers.tolist(),
    )


def _text(split: Split, row: int) -> str:
    return split.texts[row] if split.pairs is None else f"{split.texts[row]} {split.pairs[row]}"


def _targets(task: Task, split: Split, rows: Sequence[int]) -> NDArray[Any]:
    """Return the classes or scores of rows, or their flags: rows × labels."""
    import numpy as np

    chosen = picked(split, rows, split.name, split.sha256)
    if task.objective.linear == "flags":
        return np.array(task.scorer.truth(chosen))
    return np.array(list(chosen.labels or ()))


def _vectors(rows: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        min_df=2 if rows >= RARE else 1,
        max_features=FEATURES,
        lowercase=False,
        tokenizer=partial(bag_of_words.words, symbols=True),
        token_pattern=None,
    )


def _model(task: Task, strength: float, own: NDArray[Any]) -> Any:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if task.objective.linear == "scores":
        return Ridge(alpha=1 / strength)
    if task.objective.linear == "classes" and (own == own[0]).all():
        return DummyClassifier()  # of one class, as a model's own answers may be, nothing is fitted
    logistic = LogisticRegression(C=strength, max_iter=1000)
    return OneVsRestClassifier(logistic) if task.objective.linear == "flags" else logistic


def _outputs(task: Task, model: Any, words: Any) -> NDArray[np.float64]:
    """Return what stands for a network's raw outputs: rows × labels, or rows × 1."""
    import numpy as np

    if task.objective.linear == "scores":
        return np.asarray(model.predict(words), float)[:, None]
    if task.objective.linear == "flags":
        given = np.asarray(model.decision_function(words), float).reshape(words.shape[0], -1)
        for column, each in enumerate(model.estimators_):
            if not hasattr(each, "coef_"):  # all training rows have the label, or none
                given[:, column] = SURE if each.y_[0] else -SURE
        return given
    outputs = np.full((words.shape[0], len(task.labels)), -SURE)  # a label that train lacks
    outputs[:, model.classes_] = np.log(np.maximum(model.predict_proba(words), 1e-12))
    return outputs


def _loss(task: Task, outputs: NDArray[np.float64], truth: NDArray[Any]) -> float:
    """Return the log loss, or for scores the mean squared error."""
    import numpy as np

    if task.objective.linear == "scores":
        return float(np.square(outputs[:, 0] - truth).mean())
    if task.objective.linear == "flags":
        return float(np.logaddexp(0, np.where(truth == 1, -outputs, outputs)).mean())
    return float(-outputs[np.arange(len(truth)), truth].mean())
