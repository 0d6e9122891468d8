"""A store that believes only what this process has made, for runs that trust no cache.

What a CI system restored may hold a wrong artifact under the right fingerprint, a wrong score, or a
prepared checkpoint of an unfinished training. Nothing of that is read. What is made is published as
in any store, so later runs find it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rarefy.pipeline.store.artifact import Artifact, Manifest
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms import json_text


class Fresh(Store):
    """A store without earlier work: no cache hit, no note, no progress of an unfinished stage.

    Artifacts can be opened by tag or digest, because their bytes are checked.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._published: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._started: set[str] = set()

    def publish(
        self, directory: Path, manifest: Manifest, run: dict[str, Any], **options: Any
    ) -> Artifact:
        artifact = super().publish(directory, manifest, run, **options)
        self._published[manifest.stage.fingerprint] = artifact.digest
        return artifact

    def lookup(self, fingerprint: str) -> Artifact | None:
        if fingerprint not in self._published:
            return None
        return self.open(self._published[fingerprint])

    def work(self, fingerprint: str, *, resume: bool = True) -> Path:
        started = fingerprint in self._started
        self._started.add(fingerprint)
        return super().work(fingerprint, resume=resume and started)

    def note(self, key: str, form: Any = Any) -> Any:
        text = self._notes.get(key)
        return None if text is None else json_text.shaped(form, text)

    def keep_note(self, key: str, value: Any) -> None:
        self._notes[key] = json.dumps(value)
        super().keep_note(key, value)
