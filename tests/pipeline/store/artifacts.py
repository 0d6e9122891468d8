"""Small artifacts, published and damaged."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.store.artifact import Kind, Manifest, Parent, StageRecord, list_files
from pipeline.store.store import Store


def publish(store: Store, text: str = "hello", fingerprint: str = "f" * 64, parents=()):
    with store.draft() as draft:
        (draft / "sub").mkdir()
        (draft / "a.txt").write_text(text)
        (draft / "sub" / "b.bin").write_bytes(b"\x00\x01\x02")
        manifest = Manifest(
            kind=Kind.CHECKPOINT,
            files=list_files(draft),
            parents=tuple(Parent(digest=digest, role="input") for digest in parents),
            stage=StageRecord(name="s", version=1, parameters={}, fingerprint=fingerprint),
        )
        return store.publish(draft, manifest, {"seconds": 1.5})


def damage(path: Path) -> None:
    """Flip one bit in place: same size, same time."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
