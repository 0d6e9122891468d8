"""A linear model on the words of the same rows: whether a transformer pays at all.

TF-IDF of words and pairs of words (Salton & Buckley 1988) with a logistic regression, or a ridge
regression for scores, through scikit-learn. On topics it often comes within a point of a
transformer (Wang & Manning 2012, "Baselines and bigrams", ACL).
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.data import bag_of_words
from rarefy.pipeline.data.development_split import picked
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.latency.timer import TIMER, Timer
from rarefy.pipeline.measure.measurements import Linear
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.progress import Progress, silent

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
    task: Task,
    train: Split,
    dev: Split,
    evaluated: Split,
    seed: int,
    progress: Progress = silent,
    timer: Timer = TIMER,
) -> Linear:
    """Train the model, choose its regularization, and answer rows; time it from text to answer.

    Args:
        task: It must say what its ``linear`` form is.
        train: The rows to learn from, of which ``MOST`` at most are drawn.
        dev: The rows on which the regularization is chosen.
        evaluated: The rows to answer, all at once, and to time, one a call.
        seed: Of the draw.
        progress: Shows how far it is.
        timer: The clock.
    """
    import numpy as np

    started = timer.seconds()
    order = np.random.default_rng(seed).permutation(len(train))
    rows = order[:MOST].tolist()
    texts = [_text(train, row) for row in rows]
    targets = targets_of(task, train, rows)
    vectors = _vectors(len(rows))
    try:
        words = vectors.fit_transform(texts)
    except ValueError:  # no word is in two rows, as of ids: nothing is left
        words = vectors.set_params(min_df=1).fit_transform(texts)
    held_out = vectors.transform([_text(dev, row) for row in range(len(dev))])
    truth = targets_of(task, dev, range(len(dev)))
    best, task = fit(task, (words, targets), (held_out, truth), dev, progress)
    seconds = timer.seconds() - started

    def answer(texts: Sequence[str]) -> NDArray[np.float64]:
        words = vectors.transform(texts)
        return task.head.predictions(outputs(task, best, words))

    texts = [_text(evaluated, row) for row in range(len(evaluated))]
    answers = answer(texts)
    queue = itertools.cycle(texts)
    times = timer.time_calls(lambda: answer([next(queue)]), CALLS)
    progress(len(STRENGTHS), len(STRENGTHS), "training the linear model")
    return Linear(
        size=len(pickle.dumps((vectors, best))),
        seconds=seconds,
        rows=len(rows),
        milliseconds=times,
        answers=answers.tolist(),
    )


def fit(
    task: Task,
    train: tuple[Any, NDArray[Any]],
    held_out: tuple[Any, NDArray[Any]],
    dev: Split,
    progress: Progress = silent,
) -> tuple[Any, Task]:
    """Train a regression with the strength that is best on other rows.

    Args:
        task: It must say what its ``linear`` form is.
        train: The features, rows × columns, and the targets of the training rows.
        held_out: Those of the development rows.
        dev: The development rows.
        progress: Shows how far it is.

    Returns:
        The regression, and the task with what was chosen for it, such as thresholds.
    """
    import numpy as np

    features, targets = train
    others, truth = held_out
    best = None
    least = np.inf
    for done, strength in enumerate(STRENGTHS):
        progress(done, len(STRENGTHS), "training the linear model")
        model = _model(task, strength, targets)
        model.fit(features, targets)
        loss = _loss(task, outputs(task, model, others), truth)
        if loss < least:
            best, least = model, loss
    if task.head.chooses:
        of_others = outputs(task, best, others)
        chosen = task.head.choose(of_others, dev)
        task = task.of_model(chosen)
    return best, task


def _text(split: Split, row: int) -> str:
    if split.pairs is None:
        return split.texts[row]
    return f"{split.texts[row]} {split.pairs[row]}"


def targets_of(task: Task, split: Split, rows: Sequence[int]) -> NDArray[Any]:
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


def _model(task: Task, strength: float, targets: NDArray[Any]) -> Any:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if task.objective.linear == "scores":
        return Ridge(alpha=1 / strength)
    if task.objective.linear == "classes" and (targets == targets[0]).all():
        return DummyClassifier()  # of one class, as a model's own answers may be, nothing is fitted
    logistic = LogisticRegression(C=strength, max_iter=1000)
    if task.objective.linear == "flags":
        return OneVsRestClassifier(logistic)
    return logistic


def outputs(task: Task, model: Any, words: Any) -> NDArray[np.float64]:
    """Return what stands for a network's raw outputs: rows × labels, or rows × 1."""
    import numpy as np

    if task.objective.linear == "scores":
        predictions = np.asarray(model.predict(words), float)
        return predictions[:, None]
    rows = words.shape[0]
    if task.objective.linear == "flags":
        logits = np.asarray(model.decision_function(words), float).reshape(rows, -1)
        for column, estimator in enumerate(model.estimators_):
            if not hasattr(estimator, "coef_"):  # all training rows have the label, or none
                logits[:, column] = SURE if estimator.y_[0] else -SURE
        return logits
    outputs = np.full((rows, len(task.labels)), -SURE)  # a label that train lacks
    probabilities = np.maximum(model.predict_proba(words), 1e-12)
    outputs[:, model.classes_] = np.log(probabilities)
    return outputs


def _loss(task: Task, outputs: NDArray[np.float64], truth: NDArray[Any]) -> float:
    """Return the log loss, or for scores the mean squared error."""
    import numpy as np

    if task.objective.linear == "scores":
        errors = outputs[:, 0] - truth
        return float(np.square(errors).mean())
    if task.objective.linear == "flags":
        against_truth = np.where(truth == 1, -outputs, outputs)
        return float(np.logaddexp(0, against_truth).mean())
    of_truth = outputs[np.arange(len(truth)), truth]
    return float(-of_truth.mean())
