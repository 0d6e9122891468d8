"""Facts are read from files, split and shuffled."""

from __future__ import annotations

import json
import random

import pytest

from rarefy.pipeline.terms.errors import DataError
from rarefy.stages.inject import facts as knowledge
from rarefy.stages.inject.facts import Fact
from tests.stages.facts import write_facts


@pytest.mark.parametrize(
    ("relation", "query"),
    [("is_a", "Rome is a"), ("lies in", "Rome lies in"), ("means", "Rome"), ("synonym", "Rome")],
)
def test_a_query_is_the_subject_and_the_relation(relation, query):
    assert Fact("Rome", relation, "x").query == query


def test_glosses_are_read_from_jsonl_and_twins_once(tmp_path):
    rows = [{"term": "bow", "text": "to bend"}, {"term": "dog", "text": "an animal"}]
    path = write_facts(tmp_path / "g.jsonl", [json.dumps(row) for row in [*rows, rows[0]]])
    assert knowledge.read(path) == [
        Fact("bow", "means", "to bend"),
        Fact("dog", "means", "an animal"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.tsv", "\ufeffterm\ttext\r\nbow\tto bend\r\n\r\ndog\tan animal\r\n\r\n"),
        (
            "f.jsonl",
            '\ufeff{"term": "bow", "text": "to bend"}\n\n{"term": "dog", "text": "an animal"}\n\n',
        ),
    ],
)
def test_a_byte_order_mark_and_blank_lines_are_no_facts(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert [fact.subject for fact in knowledge.read(tmp_path / name)] == ["bow", "dog"]


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("f.tsv", ["a\tb", "1\t2"], r"f\.tsv:2: needs columns 'subject' and 'object'.*found a, b"),
        ("f.tsv", ["term\ttext", "dog"], r"f\.tsv:2: 1 columns; the header has 2"),
        ("f.tsv", ["term\ttext", "dog\t "], r"f\.tsv:2: text: expected text, found ' '"),
        ("f.tsv", [], r"f\.tsv: found 0 distinct facts"),
        ("f.jsonl", ['{"term": "a", "text": "b"}', "{"], r"f\.jsonl:2: not valid JSON"),
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


def test_a_held_out_gloss_does_not_stand_among_the_learned_ones():
    """Synonyms share a gloss: facts that read alike are all learned or all held out."""
    facts = [
        Fact(
            f"term {number}",
            "means",
            f"gloss {number // 2} of some{', ' if number % 2 else ' '}WORDS",
        )
        for number in range(200)
    ]
    for seed in range(5):
        learned, kept = knowledge.split(facts, 0.1, random.Random(seed))
        assert len(kept) == 20
        assert sorted(learned + kept, key=facts.index) == facts
        twins = {fact.subject.split()[1] for fact in kept}
        assert twins == {str(int(number) ^ 1) for number in twins}


def test_what_is_said_of_both_is_not_on_both_sides():
    """ "car has part wheel" and "wheel is part of car" are one sentence."""
    facts = []
    for number in range(100):
        facts.append(Fact(f"whole{number}", "has_part", f"part{number}"))
        facts.append(Fact(f"part{number}", "part_of", f"whole{number}"))
    learned, kept = knowledge.split(facts, 0.2, random.Random(0))
    said = {frozenset((fact.subject, fact.object)) for fact in learned}
    assert kept
    assert not [fact for fact in kept if frozenset((fact.subject, fact.object)) in said]


def test_terms_may_stand_on_both_sides_but_no_fact_twice():
    facts = [Fact(f"breed {number}", "hypernym", "dog") for number in range(40)]
    facts += [Fact(f"Breed {number}", "is_a", "Dog") for number in range(40)]
    learned, kept = knowledge.split(facts, 0.25, random.Random(0))
    assert len(kept) == 20
    breeds = [{fact.subject.lower() for fact in side} for side in (learned, kept)]
    assert breeds[0].isdisjoint(breeds[1])


def test_shuffled_facts_keep_their_relation_and_lose_their_object():
    facts = [Fact(f"s{n}", ("means", "part_of")[n % 2], f"o{n}") for n in range(20)]
    dealt = knowledge.shuffled(facts, random.Random(3))
    for own, other in zip(facts, dealt, strict=True):
        assert (own.subject, own.relation) == (other.subject, other.relation)
        assert own.object != other.object
        assert int(own.object[1:]) % 2 == int(other.object[1:]) % 2
    assert sorted(fact.object for fact in dealt) == sorted(fact.object for fact in facts)


def test_facts_that_have_no_other_object_to_take_are_not_taught_as_they_are():
    """Each kept its own object, so that the control taught what it should not."""
    alone = [Fact(f"s{n}", f"relation {n}", f"o{n}") for n in range(10)]
    same = [Fact(f"s{n}", "hypernym", ("dog", "Dog.")[n % 2]) for n in range(4)]
    others = [Fact(f"s{n}", "means", f"o{n}") for n in range(10)]
    assert knowledge.shuffled([*alone, *same], random.Random(0)) == []
    dealt = knowledge.shuffled([*alone, *others, *same], random.Random(0))
    assert [fact.subject for fact in dealt] == [fact.subject for fact in others]
    assert not {*dealt} & {*others}


def test_of_few_objects_a_shuffled_subject_tells_nothing():
    """As many keep an equal object as by chance: one in three, as with a fair draw of three."""
    facts = [Fact(f"s{n}", "hypernym", ("dog", "cat", "tree")[n % 3]) for n in range(3000)]
    dealt = knowledge.shuffled(facts, random.Random(0))
    assert sum(map(Fact.__eq__, facts, dealt)) == pytest.approx(1000, abs=100)
