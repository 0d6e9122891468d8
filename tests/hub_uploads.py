"""The part of the Hub's API with which its library uploads a folder, on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from tests import hub
from tests.hub import TOKEN, Hub, Repository

COMMIT = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<verb>\w+)/(?P<revision>[^/]+)")
BATCH = re.compile(r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch")


@dataclass
class Uploads:
    """What was uploaded: large files by their sha256, and what each request asked for.

    ``refuses``: the start of a path -> the status with which requests of it are answered.
    """

    large: dict[str, bytes] = field(default_factory=dict)
    posted: list[tuple[str, Any]] = field(default_factory=list)
    refuses: dict[str, int] = field(default_factory=dict)


class _Accept(hub._Answer):
    uploads: ClassVar[Uploads]

    def do_PUT(self) -> None:
        content = self._body()
        digest = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == digest
        self.uploads.large[digest] = content
        self._send(200, b"", {})

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        lines = [json.loads(line) for line in body.splitlines() if line]
        self.uploads.posted.append((path, lines))
        refused = [code for start, code in self.uploads.refuses.items() if path.startswith(start)]
        if refused or self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(refused[0] if refused else 401, b"{}", {})
        if path == "/api/repos/create":
            return self._create(lines[0])
        if path == "/api/validate-yaml":
            return self._say({"errors": [], "warnings": []})
        if found := BATCH.fullmatch(path):
            return self._batch(lines[0])
        found = COMMIT.fullmatch(path)
        assert found, path
        repository = self.hub.repositories["models", found["name"]]
        if found["verb"] == "branch":
            return self._branch(repository, found["revision"])
        if found["verb"] == "preupload":
            return self._modes(lines[0])
        assert found["verb"] == "commit"
        return self._commit(repository, found["name"], found["revision"], lines)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if ("models", name) in self.hub.repositories:
            return self._say({"url": f"{self.hub.url}/{name}"}, 409)
        made = self.hub.add(name, {".gitattributes": b""})
        made.private = bool(asked.get("private")) or asked.get("visibility") == "private"
        return self._say({"url": f"{self.hub.url}/{name}"})

    def _branch(self, repository: Repository, name: str) -> None:
        taken = name in repository.branches
        repository.branches.setdefault(name, repository.branches["main"])
        self._say({}, 409 if taken else 201)

    def _modes(self, asked: dict[str, Any]) -> None:
        def mode(path: str) -> str:
            return "lfs" if path.endswith((".onnx", ".onnx_data")) else "regular"

        files = [
            {"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False}
            for f in asked["files"]
        ]
        self._say({"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            each | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}}
            for each in asked["objects"]
        ]
        self._say({"transfer": "basic", "objects": objects})

    def _commit(
        self, repository: Repository, name: str, branch: str, lines: list[dict[str, Any]]
    ) -> None:
        files = dict(repository.commits[repository.branches[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.uploads.large[value["oid"]]
        digest = repository.commit(files, branch)
        self._say({"commitOid": digest, "commitUrl": f"{self.hub.url}/{name}/commit/{digest}"})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _say(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


@contextmanager
def serve() -> Iterator[tuple[Hub, Uploads]]:
    """Run an empty hub that takes uploads while the ``with`` block lasts."""
    uploads = Uploads()
    with hub.serve(type("Accept", (_Accept,), {"uploads": uploads})) as server:
        yield server, uploads
