"""YAML without its pitfalls, within limits, with line numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.terms.errors import RecipeError


@pytest.fixture
def read(tmp_path: Path):
    def do(text: str | bytes):
        path = tmp_path / "r.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return yaml_file.read(path)

    return do


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("5E3", 5000.0),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("09", 9),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("12:30", "12:30"),
        ("2024-01-02", "2024-01-02"),
        ("1_000", "1_000"),
        ("3 %", "3 %"),
    ],
)
def test_plain_words_and_numbers_are_what_they_look_like(read, text, value):
    found = read(f"a: {text}\n").values["a"]
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_python_prints_reads_back(tmp_path_factory, number):
    path = tmp_path_factory.getbasetemp() / "numbers.yaml"
    path.write_text(f"a: {number!r}\n")
    assert yaml_file.read(path).values["a"] == number


def test_lines_are_those_of_the_keys(read):
    lines = read("name: x\nstages:\n  - prune:\n      target: 3\n  - merge\n").lines
    assert lines[("stages", 0, "prune", "target")] == 4
    assert lines[("stages", 1)] == 5


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: duplicate key 'a'"),
        ("a:\n  - b: 1\n    b: 2\n", ":3: duplicate key 'b'"),
        ("a: 1\n\tb: 2\n", ":2: not valid YAML"),
        ("a: [1, 2\n", "not valid YAML"),
        ("b: 1\na: {c: 1\nd: 2\n", "; is the '{' of line 2 closed?"),
        ("? [a, b]\n: c\n", ":1: a key must be a plain word"),
        ("a: !!python/object:os.system x\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        (BOMB, "expands to more than"),
        ("a: &a [*a]\n", "expands to more than"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "the number is too long"),
        (b"a: \xff\n", "not UTF-8 at byte 3"),
        (b"a: \x00\n", "not valid YAML"),
        ("a" * 1_000_001, "more than 1000000 bytes, the limit for a recipe"),
    ],
    ids=range(17),
)
def test_each_trap_is_named_in_one_line(read, text, message):
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "r.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_recipe_and_a_folder(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        yaml_file.read(tmp_path / "nowhere.yaml")
    with pytest.raises(RecipeError, match="cannot be read: it is not a regular file"):
        yaml_file.read(tmp_path)


@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(alphabet="0123456789.eE+-_ytnouesl~:# '\"", max_size=8),
        ),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_what_is_dumped_reads_back_as_the_same_values(value):
    text = yaml_file.dump({"a": value})
    assert yaml_file.parse(text.encode(), "recipe").values == {"a": value}
