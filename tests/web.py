"""A web server on this machine with ETags and ranges, whose faults a test chooses."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What the server has, by path, and how it fails.

    ``denied``: paths that it answers with 403, as a bucket that may not be listed; ``cut``: bytes
    after which each answer's connection breaks, of the next ``cuts`` answers; ``when_read``: called
    as a file's bytes are asked for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    etags: bool = True
    extra: bytes = b""
    """What each file has beyond what HEAD says of it."""
    ranges: bool = True
    cut: int = 0
    cuts: int = 0
    changes: dict[str, bytes] = field(default_factory=dict)
    """What a file becomes once it has been read."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and range of each request."""
    sent: list[str] = field(default_factory=list)
    """The paths whose bytes were sent, in order."""
    url: str = ""

    def mend(self) -> None:
        """Take all faults away."""
        self.denied.clear()
        self.changes.clear()
        self.cuts, self.extra, self.etags, self.ranges = 0, b"", True, True


@contextmanager
def served() -> Iterator[Web]:
    """Serve files on a port of this machine."""
    from fsspec.implementations.http import HTTPFileSystem

    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.lstrip("/")
            wanted = self.headers.get("Range")
            web.asked.append((self.command, path, wanted))
            data = web.files.get(path)
            if data is None:
                self.send_response(403 if path in web.denied else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if body:
                data += web.extra
            start, stop = 0, len(data)
            if wanted and web.ranges:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(stop, int(last or stop) + 1)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            else:
                self.send_response(200)
            if web.etags:
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()[:16]}"')
            self.send_header("Content-Length", str(stop - start))
            self.end_headers()
            if not body:
                return
            web.sent.append(path)
            part = data[start:stop]
            if web.cuts:
                web.cuts -= 1
                self.wfile.write(part[: web.cut])
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True
                return
            self.wfile.write(part)
            if path in web.changes:
                web.files[path] = web.changes.pop(path)

    HTTPFileSystem.clear_instance_cache()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web.url = f"http://127.0.0.1:{server.server_port}"
        yield web
        server.shutdown()
    HTTPFileSystem.clear_instance_cache()
