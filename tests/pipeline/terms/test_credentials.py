"""Credentials in URLs are found in every form, and hidden in every text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from rarefy.pipeline.terms.credentials import found_in, redact

SECRET = "hush"
SECRETS = [
    "s3://AKIA123:hush@bucket/store",
    "s3://AKIA123:hush/hush+hush=@bucket/store#production",
    "s3://AKIA123:a@b/hush@bucket",
    "s3://:hush@bucket/store",
    "https://hush@host.example/store",
    "https://hush@host.example:8080/store/a@b",
    "https://user:hush@host.example/store?a=1",
    "simplecache::s3://AKIA123:hush@bucket/store",
    "https://bucket.s3.amazonaws.com/store?X-Amz-Date=1&X-Amz-Signature=hush",
    "https://bucket.s3.amazonaws.com/store?X-Amz-Credential=hush&X-Amz-Expires=9",
    "https://b.s3.amazonaws.com/x?AWSAccessKeyId=hush&Signature=hush&Expires=1",
    "https://account.blob.core.windows.net/c/x?sv=2022&se=2026&sig=hush%3D",
    "https://host.example/store?token=hush",
    "https://host.example/store?version=3&access_token=hush#production",
    "https://host.example/store?api_key=hush",
    "HTTPS://HUSHER:hush@host.example/",
    "https:/user:hush@host.example/store",
    "s3:///AKIA123:hush@bucket/store",
    "https://host.example/store?pass=hush",
    "https://host.example/store?passphrase=hush",
]
ODD = [
    "s3://AKIA123:hu sh@bucket/store",
    "s3://AKIA123:hu'sh@bucket/store",
    's3://AKIA123:hu"sh@bucket/store',
    "s3://AKIA123:<hush>@bucket/store",
    "simplecache::s3://AKIA123:hu sh@bucket/store",
]
HARMLESS = [
    "s3://models/rarefy#production",
    "s3://models/rarefy/a@b",
    "file:///shared/store@home#production",
    "https://host.example:8080/store?versionId=3&keyspace=a",
    "abfss://container@account.dfs.core.windows.net/store",
    "hub:owner/name@revision",
    "write to someone@host.example about key=value",
    "s3://***@bucket/store",
    "C:/Users/me@work/store",
    "file:///me@work/store",
    "file:///shared/a:b/me@work",
    "note: see s3://models/rarefy or write to me@work",
]


@pytest.mark.parametrize("url", SECRETS)
def test_every_form_is_found_and_hidden(url: str) -> None:
    assert found_in(url)
    said = redact(f"cannot read {url}: no such bucket")
    assert SECRET not in said
    assert said.startswith("cannot read ")
    assert said.endswith(": no such bucket")
    assert redact(said) == said


@pytest.mark.parametrize("url", ODD)
def test_a_url_is_refused_also_if_its_secret_could_not_stand_in_a_sentence(url: str) -> None:
    assert found_in(url)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert not found_in(text)


@pytest.mark.parametrize("url", SECRETS)
def test_json_stays_json(url: str) -> None:
    before = json.dumps({"a": f'"{url}"\n', "b": [1, "x@y"]}, separators=(",", ":"))
    after = json.loads(redact(before))
    assert after["b"] == [1, "x@y"]
    assert SECRET not in after["a"]


def test_a_word_without_end_takes_no_time() -> None:
    """A gene among the rows of a report once took hours, as each letter may begin a scheme."""
    text = "see https://x " + "ACGT" * 250_000
    began = time.process_time()
    assert redact(text) == text
    assert redact(f"{text}https://user:{SECRET}@host").endswith("://***@host")
    assert time.process_time() - began < 20


GROWING = {
    "signs that may end a sentence": ("https://host.example/?token=", ".,)", "x"),
    "parameters": ("https://host.example/?", "token=hush&", ""),
    "escaped signs": ("https://host.example/?", "%3F", ""),
    "slashes": ("s3:", "/", " "),
    "users": ("https://", "a:b@", ""),
    "schemes": ("", "a:/ ", ""),
    "letters that may begin a scheme": ("see https://x ", "acgt", ""),
}


@pytest.mark.parametrize("text", GROWING.values(), ids=GROWING)
def test_twice_the_text_takes_twice_the_time(text: tuple[str, str, str]) -> None:
    """A report is redacted at the end of a run, whatever its rows look like."""
    begin, repeated, end = text
    seconds = []
    for characters in (200_000, 800_000):
        long = begin + repeated * (characters // len(repeated)) + end
        seconds.append(min(timed(redact, long) for _ in range(3)))
    short, long_one = seconds
    assert long_one < 8 * short + 0.01  # four times the text; a quadratic pattern takes 16 times


def timed(call: Callable[[str], object], text: str) -> float:
    began = time.process_time()
    call(text)
    return time.process_time() - began
