"""Tokens with tags, and text with spans, become words and tags; what does not fit is one line."""

from __future__ import annotations

import pytest

from rarefy.pipeline.tasks.token_classification import read_rows
from rarefy.pipeline.terms.errors import DataError

TEXT = "Ann Lee, of New York."


def test_tokens_keep_their_tags():
    assert read_rows.read(["Ann", "Lee,"], ["B-P", "I-P"]) == ("Ann Lee,", ("B-P", "I-P"))
    assert read_rows.read(["Ann", "Lee,"], None) == ("Ann Lee,", None)


@pytest.mark.parametrize("form", [dict, list])
def test_spans_become_tags_of_words_and_marks(form):
    spans = [{"start": 12, "end": 20, "label": "CITY"}, {"start": 0, "end": 7, "label": "NAME"}]
    given = spans if form is dict else [list(span.values()) for span in spans]
    text, tags = read_rows.read(TEXT, given)
    assert text == "Ann Lee , of New York ."
    assert tags == ("B-NAME", "I-NAME", "O", "O", "B-CITY", "I-CITY", "O")


def test_a_span_within_a_script_without_spaces_takes_its_characters():
    text, tags = read_rows.read("我住在北京。", [[3, 5, "CITY"]])
    assert text == "我 住 在 北 京 。"
    assert tags == ("O", "O", "O", "B-CITY", "I-CITY", "O")


def test_words_with_marks_are_read_whole():
    text, tags = read_rows.read("दिल्ली में", [[0, 6, "CITY"]])
    assert text == "दिल्ली में"
    assert tags == ("B-CITY", "O")


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (["b-per", "i-per", "o"], "the tags 'b-per' and 'i-per' would be names of two entities"),
        (["B_PER", "I_PER", "O"], "the tags 'B_PER' and 'I_PER' would be names of two entities"),
        (["PER-B", "PER-I", "O"], "the tags 'PER-B' and 'PER-I' would be names of two entities"),
        (["city", "street", "o"], "the tag 'o' would be the name of an entity; write O for all"),
        (["city", "O", "o"], "the tag 'o' would be the name of an entity; write O for all"),
    ],
)
def test_prefixes_of_another_form_are_refused(tags, said):
    with pytest.raises(DataError, match=said):
        read_rows.names([tags])


def test_names_without_prefixes_may_look_like_some():
    for tags in (["n", "o", "v"], ["b_sharp", "i_beam"], ["I-PER", "O"], ["hepatitis-b", "O"]):
        assert set(read_rows.names([tags])) == set(tags)


def test_text_without_spans_is_outside():
    assert read_rows.read("no name", []) == ("no name", ("O", "O"))


@pytest.mark.parametrize(
    ("given", "target", "said"),
    [
        (["a", "b c"], ["O", "O"], "token 2 ('b c') is empty or has a blank in it"),
        (["a", ""], ["O", "O"], "token 2 ('') is empty or has a blank in it"),
        (["a", 3], ["O", "O"], "token 2 is 3, not text"),
        (["a", None], ["O", "O"], "token 2 is None, not text"),
        (["a", "b"], ["O"], "2 tokens, but 1 tag"),
        (["a"], [3], "tag 1 is the number 3; write the tags' names"),
        (["a"], [None], "tag 1 is None; a tag is a name"),
        ("ab cd", ["O", "O"], "'O' is not a span"),
        ("ab cd", [{"start": 0, "end": 9, "label": "X"}], "is not within the text"),
        ("ab cd", [{"start": 3, "end": 3, "label": "X"}], "is not within the text"),
        ("ab cd", [{"start": -1, "end": 2, "label": "X"}], "is not within the text"),
        ("ab cd", [[0, 4, "X"], [3, 5, "Y"]], "overlap"),
        ("ab cd", [[0, 1, "X"], [1, 2, "Y"]], "share the word 'ab'"),
        ("ab cd", [[0, "2", "X"]], "start and end are whole numbers"),
        ("ab cd", [[0, True, "X"]], "start and end are whole numbers"),
        ("ab cd", [[0, 2, ""]], "label a name"),
        ("ab cd", [[0, 2]], "is not a span"),
    ],
)
def test_what_does_not_fit_is_refused(given, target, said):
    with pytest.raises(DataError) as raised:
        read_rows.read(given, target)
    assert said in str(raised.value)


def test_names_are_in_order_of_type_then_prefix():
    tags = [("O", "I-B", "B-B", "S-A", "E-A", "B-A", "I-A")]
    assert read_rows.names(tags) == ["O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B"]
    assert read_rows.names([("VERB", "NOUN", "O")]) == ["O", "NOUN", "VERB"]
    assert read_rows.names([("I-X", "O")]) == ["O", "I-X"]


def test_a_type_of_spans_may_have_several_words_in_eval_only():
    _, tags = read_rows.read("Ann works", [[0, 3, "NAME"]])
    assert read_rows.names([tags]) == ["O", "B-NAME", "I-NAME"]
    assert read_rows.names([("B-NAME", "O")]) == ["O", "B-NAME"]


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (("B-A", "L-A"), "the tag 'L-A' has an unknown prefix next to 'B-A'"),
        (("B-A", "city", "O"), "the tag 'city' has an unknown prefix"),
        (("O", "O"), "train has only the tag 'O'"),
        (tuple(f"B-{n}" for n in range(1200)), "train has 1200 different tags"),
    ],
)
def test_tags_that_cannot_be_read_are_refused(tags, said):
    with pytest.raises(DataError) as raised:
        read_rows.names([tags])
    assert said in str(raised.value)
