"""What a user reads of a tagged text."""

from __future__ import annotations

import numpy as np

from rarefy.pipeline.tasks.token_classification import predictions as entity_answers

LABELS = ("O", "B-CITY", "I-CITY", "E-CITY", "S-CITY")


def tagged(*tags, share=0.8):
    rows = np.full((len(tags), len(LABELS)), 0.05)
    for row, tag in enumerate(tags):
        rows[row, LABELS.index(tag)] = share
    return entity_answers.of_words(rows, LABELS)


def test_entities_have_the_characters_of_the_text():
    text = "to  New York."
    given = entity_answers.of_text(
        text, [(0, 2), (4, 7), (8, 12), (12, 13)], tagged("O", "B-CITY", "E-CITY", "O"), LABELS
    )
    (found,) = given.entities
    assert found == {"type": "CITY", "text": "New York", "start": 4, "end": 12, "score": 0.8}
    assert given.tags == ["O", "B-CITY", "E-CITY", "O"]
    assert given.columns() == ["CITY: New York (0.800)"]


def test_tags_are_written_in_the_scheme_of_the_labels():
    given = entity_answers.of_text(
        "a b c", [(0, 1), (2, 3), (4, 5)], tagged(*["I-CITY"] * 3), LABELS
    )
    assert given.tags == ["B-CITY", "I-CITY", "E-CITY"]


def test_a_text_without_entities_says_so():
    given = entity_answers.of_text("a", [(0, 1)], tagged("O"), LABELS)
    assert given.columns() == ["no entities"]
    assert given._asdict() == {"entities": [], "tags": ["O"]}


def test_a_word_that_is_not_a_number_is_outside():
    (word,) = entity_answers.of_words(np.full((1, 5), np.nan), LABELS)
    assert word.tag == "O"
    assert np.isnan(word.score)


def test_a_sentence_is_shown_with_its_entities_in_brackets():
    shown = entity_answers.in_words(
        ["in", "New", "York", "!"], ["O", "B-CITY", "E-CITY", "O"], LABELS
    )
    assert shown == "in [CITY: New York] !"
