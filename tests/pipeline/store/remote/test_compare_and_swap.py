"""A file on a remote is replaced only if it is still as it was read, where the service can do that.

The services are played by small file systems that enforce the conditions that they are sent; S3 is
also played by a server (test_remote.py).
"""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from rarefy.pipeline.store.remote import compare_and_swap

PATH = "bucket/tags/best.json"


class RefusedError(OSError):
    status_code = 412


class Service:
    """Versions of one file; subclasses understand a service's conditions."""

    protocol: str | tuple[str, ...]
    key: str

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.version = 0

    def invalidate_cache(self) -> None: ...

    def info(self, path: str) -> dict[str, str]:
        if self.data is None:
            raise FileNotFoundError(path)
        return {self.key: f"v{self.version}"}

    def cat_file(self, path: str) -> bytes:
        self.info(path)
        return self.data

    def store(self, data: bytes, condition: bool) -> None:
        if not condition:
            raise RefusedError("the condition does not hold")
        self.data, self.version = data, self.version + 1


class Azure(Service):
    protocol, key = ("abfs", "az"), "etag"

    def pipe_file(self, path, data, mode="overwrite", etag=None, match_condition=None):
        if mode == "create":
            if self.data is not None:
                raise FileExistsError(path)
            return self.store(data, True)
        assert match_condition == "if not modified"
        return self.store(data, self.data is not None and etag == f"v{self.version}")


class Google(Service):
    protocol, key = ("gs", "gcs"), "generation"
    _location = "https://storage.example"

    def pipe_file(self, path, data, mode="overwrite"):
        assert mode == "create"
        if self.data is not None:
            raise FileExistsError(path)
        self.store(data, True)

    def split_path(self, path):
        return (*path.split("/", 1), None)

    def call(self, method, path, *, headers, data, **query):
        assert (method, path) == ("POST", f"{self._location}/upload/storage/v1/b/bucket/o")
        assert headers == {"Content-Type": "multipart/related; boundary=part"}
        described, content = re.fullmatch(
            rb"--part\r\n.*?\r\n\r\n(.*?)\r\n--part\r\n.*?\r\n\r\n(.*)\r\n--part--", data, re.S
        ).groups()
        assert query["uploadType"] == "multipart"
        assert json.loads(described) == {"name": "tags/best.json"}
        self.store(
            content, self.data is not None and query["ifGenerationMatch"] == f"v{self.version}"
        )


@pytest.fixture(params=[Azure, Google], ids=["azure", "google"])
def service(request, monkeypatch) -> Service:
    conditions = SimpleNamespace(IfNotModified="if not modified")
    monkeypatch.setitem(sys.modules, "azure.core", SimpleNamespace(MatchConditions=conditions))
    return request.param()


def test_a_file_that_is_as_it_was_read_is_replaced(service):
    for data in (b"one", b"two", b"three"):
        compare_and_swap.replace(service, PATH, data, compare_and_swap.read(service, PATH))
        assert compare_and_swap.read(service, PATH).data == data


def test_a_file_that_was_founded_changed_or_deleted_meanwhile_is_not(service):
    for change in (b"founded", b"changed", None):
        seen = compare_and_swap.read(service, PATH)
        if change is None:
            service.data = None
        else:
            service.store(change, True)
        with pytest.raises(compare_and_swap.ChangedError):
            compare_and_swap.replace(service, PATH, b"mine", seen)
        assert service.data == change


def test_a_file_that_changes_while_it_is_read_is_not_replaced(service, monkeypatch):
    """Between the two questions that reading takes: what is read first must be the older."""
    service.store(b"one", True)
    real = service.info, service.cat_file

    def then_changed(question):
        def ask(path):
            monkeypatch.setattr(service, "info", real[0])
            monkeypatch.setattr(service, "cat_file", real[1])
            answer = question(path)
            service.store(b"two", True)
            return answer

        return ask

    monkeypatch.setattr(service, "info", then_changed(service.info))
    monkeypatch.setattr(service, "cat_file", then_changed(service.cat_file))
    seen = compare_and_swap.read(service, PATH)
    with pytest.raises(compare_and_swap.ChangedError):
        compare_and_swap.replace(service, PATH, b"mine", seen)
    assert service.data == b"two"


def test_an_error_that_is_no_refusal_is_passed_on(service, monkeypatch):
    def denied(*_arguments, **_named):
        raise PermissionError("no")

    monkeypatch.setattr(service, "store", denied)
    with pytest.raises(PermissionError):
        compare_and_swap.replace(service, PATH, b"mine", compare_and_swap.read(service, PATH))


def test_other_file_systems_write_without_a_condition():
    system = MemoryFileSystem()
    seen = compare_and_swap.read(system, "/swap/best.json")
    for data in (b"one", b"two"):
        compare_and_swap.replace(system, "/swap/best.json", data, seen)
    assert compare_and_swap.read(system, "/swap/best.json").data == b"two"
