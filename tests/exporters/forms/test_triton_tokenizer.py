"""The tokenizer of the Python backend gives the model's inputs for the texts of a request."""

from __future__ import annotations

import json

import pytest

from rarefy.exporters.forms import triton
from tests.exporters.forms import bundles
from tests.exporters.forms.triton_server import Request, tokenizer


@pytest.fixture
def repository(classifier, tmp_path):
    (tmp_path / "models").mkdir()
    triton.write(bundles.read(classifier), tmp_path / "models", "tiny")
    return tmp_path / "models"


def ask(repository, *requests):
    with tokenizer(repository, "tiny_tokenizer") as model:
        responses = model.execute(list(requests))
    return [
        {tensor.name(): tensor.as_numpy().tolist() for tensor in response.output_tensors()}
        for response in responses
    ]


def test_texts_are_padded_to_the_longest_of_their_request(repository):
    one, two = ask(repository, Request(TEXT=["the film", "film"]), Request(TEXT=["film"]))
    assert one == {
        "input_ids": [[2, 5, 6, 3], [2, 6, 3, 0]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 1, 0]],
    }
    assert two == {"input_ids": [[2, 6, 3]], "attention_mask": [[1, 1, 1]]}


def test_long_texts_are_cut_off(repository):
    (given,) = ask(repository, Request(TEXT=["film " * 100]))
    assert len(given["input_ids"][0]) == 32


def test_of_a_bundle_that_records_left_the_end_of_a_long_text_is_kept(classifier, tmp_path):
    left = {"truncation_side": "left"}
    bundles.change(classifier, "signature.json", lambda values: values.update(left))
    triton.write(bundles.read(classifier), tmp_path, "tiny")
    (given,) = ask(tmp_path, Request(TEXT=["film " * 100 + "the"]))
    assert given["input_ids"] == [[2, *[6] * 29, 5, 3]]


def test_pairs_are_tokenized_together(repository):
    path = repository / "tiny_tokenizer/1/settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pairs": True}))
    (given,) = ask(repository, Request(TEXT=["film"], PAIR=["the"]))
    assert given["input_ids"] == [[2, 6, 3, 5, 3]]


def test_a_request_that_cannot_be_read_gets_an_error_and_the_others_an_answer(repository):
    broken = Request(TEXT=["film"])
    broken.inputs()[0].as_numpy()[0, 0] = b"\xff"
    with tokenizer(repository, "tiny_tokenizer") as model:
        first, second, third = model.execute([broken, Request(), Request(TEXT=["film"])])
    assert "UnicodeDecodeError" in first.error().message()
    assert second.has_error()
    assert not third.has_error()


def test_a_text_without_tokens_is_refused_and_not_answered_from_padding(classifier, tmp_path):
    def without_specials(values):
        values["post_processor"] = None

    bundles.change(classifier, "tokenizer.json", without_specials)
    triton.write(bundles.read(classifier), tmp_path, "tiny")
    with tokenizer(tmp_path, "tiny_tokenizer") as model:
        both, fine = model.execute([Request(TEXT=["", "the film"]), Request(TEXT=["film"])])
    assert "a text has no tokens, so there is no prediction" in both.error().message()
    assert not fine.has_error()
