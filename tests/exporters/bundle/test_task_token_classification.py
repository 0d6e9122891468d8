"""What a bundle for token-classification prints: the same entities as the task."""

from __future__ import annotations

import random

import numpy as np
import pytest

from rarefy.exporters.bundle import task_token_classification as program
from rarefy.pipeline.model.tokens import words
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION

POOL = [
    *range(32, 127),
    *map(ord, "ाि\u0301\u200b\u200c\u200d\u00ad\ufeff北京か。❤\ufe0f\U00020000"),
]
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
    task = TOKEN_CLASSIFICATION.bind(labels, 32, ())
    draw, noise = random.Random(3), np.random.default_rng(3)
    for _ in range(60):
        words = draw.choices(("New", "York", "St", ","), k=draw.randint(1, 9))
        answers = task.head.predictions(2 * noise.standard_normal((len(words), len(labels))))
        ((found, tags),) = task.presenter.postprocess([words], answers)
        places = [(at, at + len(word)) for at, word in placed(words)]
        mine = program.describe(" ".join(words), places, answers, list(labels))
        assert mine["tags"] == tags
        for ours, theirs in zip(mine["entities"], found, strict=True):
            assert ours.pop("score") == pytest.approx(theirs.pop("score"), abs=1e-6)
            assert ours == theirs


def test_any_set_of_labels_is_read_as_the_task_reads_it():
    pool = [
        *"OBIES",
        "B-A",
        "I-A",
        "E-A",
        "S-A",
        "B-a-b",
        "I-_",
        "B-",
        "IS",
        "E1",
        ".",
        "_",
        "city",
    ]
    draw, noise = random.Random(5), np.random.default_rng(5)
    for _ in range(2000):
        labels = draw.sample(pool, draw.randint(2, 5))
        words = ["w"] * draw.randint(0, 6)
        task = TOKEN_CLASSIFICATION.bind(labels, 32, ())
        answers = noise.dirichlet(np.full(len(labels), 0.3), len(words))
        (told,) = task.presenter.postprocess([words], answers)
        places = [(at, at + 1) for at, _ in placed(words)]
        assert program.describe(" ".join(words), places, answers, labels) == told._asdict(), labels


def test_a_bare_letter_beside_prefixed_tags_is_a_tag_of_its_own():
    answers = np.eye(2)[[0, 1, 0]]
    found = program.describe("a b c", [(0, 1), (2, 3), (4, 5)], answers, ["I", "B-LOC"])
    assert found["tags"] == ["I", "B-LOC", "I"]
    assert [one["type"] for one in found["entities"]] == ["I", "B-LOC", "I"]


def test_the_tag_is_the_most_probable_one_before_rounding():
    shares = np.array([[0.4999999, 0.5000001]])
    assert program.describe("a", [(0, 1)], shares, ["O", "city"])["tags"] == ["city"]


@pytest.mark.parametrize("word", ["", "New York", "New\u00a0York", "a\tb", "a\u2028b", None, 3])
def test_what_is_no_word_is_refused_in_one_line(word):
    with pytest.raises(ValueError, match="is not a word") as error:
        program.joined(["in", word])
    said = str(error.value)
    assert f"{word!r} is not a word" in said
    assert len(said.splitlines()) == 1
    assert program.joined(["in", "Rome."]) == "in Rome."
    assert program.joined("New York") == "New York"


def test_raw_text_is_split_as_the_task_splits_it():
    assert program.SPLITTERS == words.SPLITTERS
    draw = random.Random(7)
    for _ in range(300):
        text = "".join(chr(draw.choice(POOL)) for _ in range(40))
        for name in words.SPLITTERS:
            assert program.split(text, name) == words.split(text, name), (name, text)


def placed(words):
    at = 0
    for word in words:
        yield at, word
        at += len(word) + 1
