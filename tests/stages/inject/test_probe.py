"""The probe ranks the object of a fact among those of all facts."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.tasks.shared import ranking
from rarefy.stages.inject.facts import Fact
from rarefy.stages.inject.probe import Probe

LEARNED = [
    Fact("spaniel", "is_a", "dog"),
    Fact("poodle", "is_a", "dog"),
    Fact("wren", "is_a", "bird"),
    Fact("wren", "is_a", "animal"),
    Fact("bow", "means", "to bend"),
]
HELD_OUT = [Fact("beagle", "is_a", "Dog."), Fact("robin", "is_a", "bird")]


@pytest.fixture
def probe() -> Probe:
    return Probe(LEARNED, HELD_OUT)


def test_objects_that_read_alike_are_one(probe: Probe) -> None:
    assert probe.objects == ["dog", "bird", "animal", "to bend"]
    assert probe.queries == [
        "spaniel is a",
        "poodle is a",
        "wren is a",
        "bow",
        "beagle is a",
        "robin is a",
    ]


def test_other_objects_of_a_query_do_not_count_against_it(probe: Probe) -> None:
    """The wren is nearest to the dog, then to bird and animal, both of which are true."""
    objects = np.eye(4)
    queries = np.array([[1, 0, 0, 0]] * 6, float)
    queries[2] = [0.9, 0.3, 0.2, 0]
    places = probe.by_embeddings("learned", queries, objects)
    assert places.higher.tolist() == [0, 0, 1, 1, 1]
    assert places.equal.tolist() == [1, 1, 1, 1, 3]


def test_a_list_of_frequent_objects_knows_the_relation_alone(probe: Probe) -> None:
    places = probe.by_frequency("held_out")
    assert places.higher.tolist() == [0, 1]  # dog: 2 learned facts; bird and animal: 1
    assert places.equal.tolist() == [1, 2]
    expected = [1.0, (1 / 2 + 1 / 3) / 2]
    assert ranking.reciprocal_rank(places).tolist() == pytest.approx(expected)


def test_objects_that_no_learned_fact_has_are_tied() -> None:
    probe = Probe(LEARNED[:4], [Fact("bow", "means", "to bend")])
    places = probe.by_frequency("held_out")
    assert (places.higher.tolist(), places.equal.tolist()) == ([0], [4])
