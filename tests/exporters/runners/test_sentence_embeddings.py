"""The embedding that a bundle's own predict.py gives."""

from __future__ import annotations

import numpy as np

from exporters.bundle import runner
from exporters.runners.sentence_embeddings import described
from pipeline.stage.tasks.sentence_embeddings import SENTENCE_EMBEDDINGS

OUTPUTS = np.array([[0.6, -0.8000001, 1 / 3]], dtype=np.float32)


def test_the_vector_is_the_tasks_own_answer():
    task = SENTENCE_EMBEDDINGS.bind((), 8, ())
    (given,) = task.presenter.answers(task.head.predictions(OUTPUTS).round(6))
    assert described(OUTPUTS, None, {}) == given._asdict()


def test_the_runner_has_these_lines_and_no_softmax():
    code = runner("sentence-embeddings")
    assert '"vector"' in code
    assert "probabilities" not in code
