"""What a bundle for token-classification prints: the same entities as the task."""

from __future__ import annotations

import random

import numpy as np
import pytest

from exporters import bundle
from exporters.runners import token_classification as runner
from pipeline.stage.tasks.token_classification import TokenClassification

SCHEMES = {
    "BIO": ("O", "B-A", "I-A", "B-B", "I-B"),
    "BIOES": ("O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B"),
    "IO": ("O", "I-A", "I-B"),
    "bare": ("O", "city", "street"),
    "untyped": ("B", "I", "O"),
    "no O": ("B-A", "B-B", "I-B"),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_entities_and_tags_are_those_of_the_task(scheme):
    labels = SCHEMES[scheme]
    task = TokenClassification(labels, 32, ())
    draw, noise = random.Random(3), np.random.default_rng(3)
    for _ in range(60):
        words = draw.choices(("New", "York", "St", ","), k=draw.randint(1, 9))
        answers = task.answers(2 * noise.standard_normal((len(words), len(labels))))
        ((found, tags),) = task.reply([words], answers)
        places = [(at, at + len(word)) for at, word in placed(words)]
        mine = runner.described(" ".join(words), places, answers, list(labels))
        assert mine["tags"] == tags
        for ours, theirs in zip(mine["entities"], found, strict=True):
            assert ours.pop("score") == pytest.approx(theirs.pop("score"), abs=1e-6)
            assert ours == theirs


def placed(words):
    at = 0
    for word in words:
        yield at, word
        at += len(word) + 1


def test_the_runner_of_a_bundle_has_the_task_s_own_lines_and_imports():
    code = bundle.runner("token-classification")
    compile(code, "predict.py", "exec")
    assert "import json\nimport re\nimport sys\n" in code
    assert code.count("import sys\n") == 1
    assert code.count("def answer(") == 1
    assert "probabilities" not in code
    assert "from exporters" not in code
