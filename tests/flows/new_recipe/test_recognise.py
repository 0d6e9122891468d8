"""The task of a file is recognised by what its columns hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from rarefy.flows.new_recipe import columns
from rarefy.flows.new_recipe.columns import Columns
from rarefy.flows.new_recipe.recognise import Recognised, recognise

DATA = Path(__file__).parents[3] / "examples" / "data"
EXAMPLES = {
    "addresses": Recognised("token-classification", ("tokens",), ("tags",)),
    "brown-tags": Recognised("token-classification", ("tokens",), ("tags",)),
    "movie-ratings": Recognised("regression", ("text",), ("rating",)),
    "movie-reviews": Recognised("text-classification", ("text",), ("label",)),
    "wordnet-concepts": Recognised("multi-label-classification", ("text",), ("labels",)),
    "wordnet-rerank": Recognised("regression", ("query", "passage"), ("relevance",), "query"),
    "wordnet-search": Recognised("sentence-embeddings", ("query", "positive")),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_tasks_of_the_examples(name: str) -> None:
    assert recognise(columns.read(DATA / name / "train.jsonl")) == EXAMPLES[name]


def table(*rows: dict[str, Any]) -> Columns:
    names = dict.fromkeys(name for row in rows for name in row)
    return Columns({name: [row.get(name) for row in rows] for name in names})


WORDS = ("a long remark", "another remark", "the last of them")


def test_a_file_of_texts_alone_has_no_labels() -> None:
    found = recognise(table(*({"text": words} for words in WORDS)))
    assert found == Recognised("text-classification", ("text",))


def test_eachof_0_and_1_are_labels_of_a_row() -> None:
    rows = [{"text": w, "rude": n % 2, "spam": int(n == 1)} for n, w in enumerate(WORDS)]
    found = recognise(table(*rows))
    assert found == Recognised("multi-label-classification", ("text",), ("rude", "spam"))
    words = [
        {name: value if name == "text" else str(bool(value)).lower() for name, value in row.items()}
        for row in rows
    ]
    assert recognise(table(*words)) == found, "a CSV file of R or SQL has true and false"
    one = recognise(table(*({"text": row["text"], "rude": row["rude"]} for row in rows)))
    assert one == Recognised("text-classification", ("text",), ("rude",))


def test_spans_of_a_text_are_tags() -> None:
    rows = [{"text": w, "entities": [{"start": 0, "end": 1, "label": "X"}]} for w in WORDS]
    assert recognise(table(*rows)) == Recognised("token-classification", ("text",), ("entities",))


def test_scores_of_pairs_are_grouped_if_the_first_text_repeats() -> None:
    rows = [
        {"sentence1": words, "sentence2": "one", "score": 0.5 + number}
        for number, words in enumerate(WORDS)
    ]
    pair = ("sentence1", "sentence2")
    assert recognise(table(*rows)) == Recognised("regression", pair, ("score",))
    again = [row | {"sentence1": "one of them"} for row in rows]
    assert recognise(table(*again)) == Recognised("regression", pair, ("score",), "sentence1")


def test_whole_numbers_are_classes() -> None:
    rows = [{"text": words, "label": number} for number, words in enumerate(WORDS)]
    assert recognise(table(*rows)) == Recognised("text-classification", ("text",), ("label",))


def test_a_csv_file_has_lists_and_numbers_as_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels"])
        writer.writerows([words, json.dumps(["a", "b"])] for words in WORDS)
    found = recognise(columns.read(path))
    assert found == Recognised("multi-label-classification", ("text",), ("labels",))
    path.write_text("text,stars\n" + "".join(f"{words},{n}.5\n" for n, words in enumerate(WORDS)))
    assert recognise(columns.read(path)) == Recognised("regression", ("text",), ("stars",))


def test_what_is_given_is_taken() -> None:
    rows = [{"text": w, "note": w[::-1], "label": n, "mood": n % 2} for n, w in enumerate(WORDS)]
    found = recognise(table(*rows), text=("note",), label=("mood",))
    assert found == Recognised("text-classification", ("note",), ("mood",))
    assert recognise(table(*rows), label=()) == Recognised("text-classification", ("text",))
    assert recognise(table({"number": 1})) is None


TEN = [f"{words}, again" for words in (*WORDS, *WORDS, *WORDS, "one more")]
SURE = [0.9 + at / 1000 for at in range(10)]


@pytest.mark.parametrize(
    ("beside", "values"),
    [
        ({"confidence": SURE}, ["pos", "neg"] * 5),
        ({"score": SURE}, [0, 1] * 5),
        ({"score": list(map(str, SURE))}, ["0", "1"] * 5),
        ({"verified": [0, 1] * 5, "spam": [0, 0, 1, 0, 0] * 2}, list("abcde") * 2),
        ({"keywords": [["x", "y"]] * 10}, ["a", "b"] * 5),
        ({"votes": [0, 1] * 5, "spam": [1, 0] * 5}, [True, False, True, None, False] * 2),
    ],
)
def test_a_column_named_like_a_label_is_the_label_whatever_is_beside_it(
    beside: dict[str, list[Any]], values: list[Any]
) -> None:
    for each in ({"text": TEN, "label": values} | beside, beside | {"label": values, "text": TEN}):
        found = recognise(Columns(each))
        assert found == Recognised("text-classification", ("text",), ("label",))


def test_a_named_column_of_lists_or_fractions_says_so_beside_others() -> None:
    lists = Columns(
        {"text": TEN, "rude": [0, 1] * 5, "spam": [0, 1] * 5, "labels": [["a"], []] * 5}
    )
    assert recognise(lists) == Recognised("multi-label-classification", ("text",), ("labels",))
    scores = Columns({"text": TEN, "rude": [0, 1] * 5, "spam": [0, 1] * 5, "target": SURE})
    assert recognise(scores) == Recognised("regression", ("text",), ("target",))


def test_a_named_column_that_tells_nothing_leaves_the_others() -> None:
    same = Columns({"text": TEN, "label": ["x"] * 10, "stars": SURE})
    assert recognise(same) == Recognised("regression", ("text",), ("stars",))
    replies = Columns({"text": TEN, "target": [f"reply {at}" for at in range(10)], "stars": SURE})
    assert recognise(replies) == Recognised("regression", ("text",), ("stars",))


def ten(**values: list[Any]) -> Columns:
    """Return a table of these columns, each repeated until it has ten rows."""
    return Columns({name: (of * 10)[:10] for name, of in values.items()})


NUMBERS = list(range(10))
ENTITIES = ("token-classification", ("tokens",), ("ner_tags",))


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (
            {"qid1": NUMBERS, "question1": TEN, "question2": TEN[::-1], "is_duplicate": [0, 1]},
            ("text-classification", ("question1", "question2"), ("is_duplicate",)),
        ),
        (
            {"premise": TEN, "hypothesis": TEN[::-1], "kinds": [["a"], ["a", "b"]]},
            ("multi-label-classification", ("premise", "hypothesis"), ("kinds",)),
        ),
        (
            {"Text": TEN, "Label": ["a", "b", "c"], "Source": ["x", "y"]},
            ("text-classification", ("Text",), ("Label",)),
        ),
        (
            {"Premise": TEN, "Hypothesis": TEN[::-1], "Gold_Label": list("abc"), "By": ["x", "y"]},
            ("text-classification", ("Premise", "Hypothesis"), ("Gold_Label",)),
        ),
    ],
    ids=["qqp", "labels of pairs", "capitals", "capitals of pairs"],
)
def test_pairs_are_whole_and_names_may_have_capitals(
    columns: dict[str, list[Any]], found: tuple[str, tuple[str, ...], tuple[str, ...]]
) -> None:
    assert recognise(ten(**columns)) == Recognised(*found)


@pytest.mark.parametrize(
    "columns",
    [
        {"pos_tags": [["X", "Y"]], "ner_tags": [["O", "B-P"]]},
        {"ner_tags": [["O", "B-P"]], "pos_tags": [["X", "Y"]]},
        {"chunk_tags": [["O", "B-NP"]], "ner_tags": [["O", "B-P"]]},
        {"pos_tags": [[1, 2]], "ner_tags": [[0, 1]]},
    ],
    ids=["behind", "before", "chunks", "numbers"],
)
@pytest.mark.parametrize("first", [True, False])
def test_of_several_tags_those_of_entities_are_taken(
    columns: dict[str, list[Any]], first: bool
) -> None:
    tokens = {"id": list(map(str, NUMBERS)), "tokens": [["a", "b"]]}
    rows = tokens | columns if first else columns | tokens
    assert recognise(ten(**rows)) == Recognised(*ENTITIES)


def test_of_several_tags_without_such_a_name_those_with_marks_are_taken() -> None:
    rows = ten(words=[["a", "b"]], pos=[["X", "Y"]], types=[["O", "B-P"]])
    assert recognise(rows) == Recognised("token-classification", ("words",), ("types",))
    numbers = ten(text=TEN, topics=[["a", "b"]], ids=[[1, 2]])
    assert recognise(numbers) == Recognised("multi-label-classification", ("text",), ("topics",))


@pytest.mark.parametrize("span", [[0, 4, "P"], {"start": 0, "end": 4, "label": "P"}], ids=str)
def test_spans_are_lists_or_objects_and_a_column_of_empty_lists_holds_none(span: Any) -> None:
    rows = ten(Comments=[[]], text=TEN, label=[[span], []])
    assert recognise(rows) == Recognised("token-classification", ("text",), ("label",))
    assert recognise(ten(text=TEN, Comments=[[]])) == Recognised("text-classification", ("text",))


@pytest.mark.parametrize(
    "labels",
    [[[1, 2], [], [2]], ["a;b", "a", "b; c"], ["[1, 2]", "[1]"]],
    ids=["numbers", "separated", "numbers in text"],
)
def test_labels_are_numbers_or_separated_by_semicolons(labels: list[Any]) -> None:
    found = recognise(ten(text=TEN, labels=labels))
    assert found == Recognised("multi-label-classification", ("text",), ("labels",))


def test_names_with_a_semicolon_in_them_are_classes() -> None:
    found = recognise(ten(text=TEN, label=["spam; ads", "ham; mail"]))
    assert found == Recognised("text-classification", ("text",), ("label",))


def test_values_that_are_all_different_are_no_labels() -> None:
    urls = [f"http://example.org/{at}" for at in NUMBERS]
    assert recognise(ten(text=TEN, url=urls)) == Recognised("text-classification", ("text",))
    named = recognise(ten(text=TEN, url=urls, label=list(map(str, NUMBERS))))
    assert named == Recognised("text-classification", ("text",), ("label",))
