"""A small server on loopback that speaks the part of the Hugging Face hub's API that we use."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret"
"""The token that may read gated and private repositories."""
PATH = re.compile(
    r"/(?P<api>api/)?(?P<kind>models/|datasets/)?(?P<name>[^/]+/[^/]+)"
    r"/(?P<verb>revision|tree|resolve)/(?P<revision>[^/]+)/?(?P<file>.*)"
)


@dataclass
class Repository:
    """The files of each commit, and the branches that point to them.

    ``gated``: files need the token, and everybody may know of them. ``private``: nobody may.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit to a branch; return its hash."""
        content = b"".join(name.encode() + text for name, text in sorted(files.items()))
        digest = hashlib.sha1(content).hexdigest()
        self.commits[digest] = files
        self.branches[branch] = digest
        return digest


@dataclass
class Hub:
    """Repositories by kind and name, what was asked for, and which answers break off.

    ``breaks``: file name -> after how many bytes each of the next answers ends.
    """

    url: str
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    breaks: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, files: Path | dict[str, bytes], kind: str = "models") -> Repository:
        """Add a repository with one commit on main: of a folder's files, or of these."""
        if isinstance(files, Path):
            paths = [path for path in files.rglob("*") if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        repository = self.repositories[kind, name] = Repository()
        repository.commit(files)
        return repository

    def ranges(self) -> list[str]:
        """Return the ranges of bytes that were asked for, in order."""
        return [asked for _, _, asked in self.asked if asked]

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables for a process that shall use this hub and its own cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        part = PATH.fullmatch(path)
        if part is None:
            return self._refuse(404, "NotFound")
        kind = part["kind"] or "models/"
        repository = self.hub.repositories.get((kind.rstrip("/"), part["name"]))
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not known):
            # The hub does not say which of the two it is, unless one has a token.
            return self._refuse(404, "RepoNotFound") if known else self._refuse(401, None)
        commit = repository.branches.get(part["revision"], part["revision"])
        files = repository.commits.get(commit)
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        if part["verb"] != "resolve":
            return self._json(part["verb"], part["name"], commit, files)
        if repository.gated and not known:
            return self._refuse(401, "GatedRepo")
        if part["file"] not in files:
            return self._refuse(404, "EntryNotFound", commit)
        return self._file(part["file"], files[part["file"]], commit)

    def _json(self, verb: str, name: str, commit: str, files: dict[str, bytes]) -> None:
        value: Any = {"id": name, "sha": commit, "siblings": [{"rfilename": f} for f in files]}
        if verb == "tree":
            value = [
                {"type": "file", "path": path, "size": len(text), "oid": _etag(text)}
                for path, text in files.items()
            ]
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, content: bytes, commit: str) -> None:
        headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit}
        start = self.headers.get("Range")
        if start is None:
            return self._send(200, content, headers, name)
        first = int(start.removeprefix("bytes=").removesuffix("-"))
        headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return self._send(206, content[first:], headers, name)

    def _refuse(self, status: int, code: str | None, commit: str = "") -> None:
        self._send(status, b"", {"X-Error-Code": code or "", "X-Repo-Commit": commit})

    def _send(self, status: int, body: bytes, headers: dict[str, str], name: str = "") -> None:
        self.send_response(status)
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.breaks.get(name):
            body = body[: self.hub.breaks[name].pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """Run an empty hub while the ``with`` block lasts."""
    handler = type("Answer", (_Answer,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
        handler.hub = hub  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
