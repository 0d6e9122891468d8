"""Facts are read from files and put into words."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from pipeline.terms.errors import DataError
from stages import knowledge
from stages.inject import Inject
from stages.knowledge import Fact
from tests.stages.facts import write_facts


def test_facts_are_put_into_words():
    def say(fact, own=None):
        return knowledge.verbalise(fact, own or {})

    spaniel = say(Fact("spaniel", "hypernym", "dog"))
    assert spaniel.text == "spaniel is a kind of dog."
    assert spaniel.text[slice(*spaniel.subject)] == "spaniel"
    assert spaniel.text[slice(*spaniel.object)] == "dog"
    assert say(Fact("bow", "means", "to bend.")).text == "bow means: to bend."
    assert say(Fact("Rome", "lies_in", "Italy")).text == "Rome lies in Italy."
    turned = say(Fact("a", "r", "b"), {"r": "From {object} comes {subject}"})
    assert turned.text == "From b comes a"
    assert turned.text[slice(*turned.subject)] == "a"
    with pytest.raises(ValidationError, match=r"must hold {subject} and {object} once each"):
        Inject(facts="x", templates={"r": "{subject} alone"})


def test_glosses_are_read_from_jsonl_and_twins_once(tmp_path):
    rows = [{"term": "bow", "text": "to bend"}, {"term": "dog", "text": "an animal"}]
    path = write_facts(tmp_path / "g.jsonl", [json.dumps(row) for row in [*rows, rows[0]]])
    assert knowledge.read(path) == [
        Fact("bow", "means", "to bend"),
        Fact("dog", "means", "an animal"),
    ]


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("f.tsv", ["a\tb", "1\t2"], r"f\.tsv:2: no columns 'subject' and 'object'.*there is a, b"),
        ("f.tsv", ["term\ttext", "dog"], r"f\.tsv:2: 1 columns; the header has 2"),
        ("f.tsv", ["term\ttext", "dog\t "], r"f\.tsv:2: text: expected text, found ' '"),
        ("f.tsv", [], r"f\.tsv: holds 0 facts"),
        ("f.jsonl", ['{"term": "a", "text": "b"}', "{"], r"f\.jsonl:2: is not JSON"),
        ("f.jsonl", ["[1]"], r"f\.jsonl:1: expected an object"),
        (
            "f.jsonl",
            ['{"term": "a", "text": null}'],
            r"f\.jsonl:1: text: expected text, found None",
        ),
    ],
)
def test_bad_facts_are_named_by_file_and_line(name, rows, message, tmp_path):
    with pytest.raises(DataError, match=message):
        knowledge.read(write_facts(tmp_path / name, rows))
