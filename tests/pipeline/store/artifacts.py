"""Small artifacts, published and damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rarefy.pipeline.store.artifact import MANIFEST, Kind, Manifest, Parent, StageRecord, list_files
from rarefy.pipeline.store.store import Store


def publish(
    store: Store,
    text: str = "hello",
    fingerprint: str = "f" * 64,
    parents=(),
    lease=None,
    signature=None,
    lasts=True,
):
    with store.draft() as draft:
        if signature is not None:
            (draft / "signature.json").write_text(json.dumps(signature))
        (draft / "sub").mkdir()
        (draft / "a.txt").write_text(text)
        (draft / "sub" / "b.bin").write_bytes(b"\x00\x01\x02")
        manifest = Manifest(
            kind=Kind.CHECKPOINT,
            files=list_files(draft),
            parents=tuple(Parent(digest=digest, role="input") for digest in parents),
            stage=StageRecord(name="s", version=1, parameters={}, fingerprint=fingerprint),
        )
        return store.publish(draft, manifest, {"seconds": 1.5}, lasts=lasts, lease=lease)


def overwrite(path: Path, text: str) -> None:
    """Change a published file, which is read-only."""
    path.chmod(0o644)
    path.write_text(text)


def make_newer(directory: Path) -> None:
    """Turn an artifact into one that a version with another manifest schema wrote."""
    values = json.loads((directory / MANIFEST).read_text())
    values |= {"schema": "rarefy.artifact/2", "parts": values.pop("files")}
    overwrite(directory / MANIFEST, json.dumps(values))


def damage(path: Path) -> None:
    """Flip one bit in place: same size, same time."""
    path.chmod(0o644)
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
