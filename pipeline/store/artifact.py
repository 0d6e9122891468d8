"""Artifacts: immutable directories whose manifest's digest is their identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.terms.digests import canonical_json, file_sha256
from pipeline.terms.errors import IntegrityError

SCHEMA: Final = "rarefy.artifact/1"
MANIFEST = "manifest.json"
RUN = "run.json"


class Kind(StrEnum):
    """What an artifact is, which decides the stages that may take it.

    ``encoder``     a pretrained body without a head for the task
    ``checkpoint``  a model with the task's head: config, safetensors, tokenizer
    ``adapter``     a checkpoint with a trained adapter attached under ``adapter/``, not yet merged
    ``bundle``      an ONNX model with all it needs to answer
    ``report``      measurements of other artifacts
    """

    ENCODER = "encoder"
    CHECKPOINT = "checkpoint"
    ADAPTER = "adapter"
    BUNDLE = "bundle"
    REPORT = "report"


class Record(BaseModel):
    """Base of the manifest's parts: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(Record):
    """One file: POSIX path relative to the artifact, size in bytes, sha256 in hex, role."""

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    role: str = "other"

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        parts = PurePosixPath(value).parts
        if not value or value.startswith("/") or "\\" in value or ".." in parts:
            raise ValueError(f"path {value!r} is not relative to the artifact")
        return value


class Parent(Record):
    """An artifact that this one was made from, and as what: input, teacher, base, reference."""

    digest: str
    role: str


class StageRecord(Record):
    """The work that made an artifact."""

    name: str
    version: int
    parameters: dict[str, Any]
    fingerprint: str


class Source(Record):
    """Where an imported model came from."""

    reference: str
    revision: str | None = None
    licence: str | None = None


class DataRecord(Record):
    """A data file that was read: sha256 over its bytes."""

    name: str
    split: str
    rows: int
    sha256: str


class Metric(Record):
    """A measured value with its 95 % interval; ``n`` is the number of rows or samples."""

    name: str
    split: str | None = None
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Manifest(Record):
    """What an artifact is and where it came from. Its canonical JSON is hashed into the digest."""

    schema_: Literal["rarefy.artifact/1"] = Field(default=SCHEMA, alias="schema")
    kind: Kind
    files: tuple[FileEntry, ...]
    parents: tuple[Parent, ...] = ()
    stage: StageRecord
    source: Source | None = None
    data: tuple[DataRecord, ...] = ()
    model: dict[str, Any] = Field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def canonical(self) -> bytes:
        """Return the manifest as canonical JSON: sorted keys, no spaces, UTF-8, no NaN."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON: the artifact's identity."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)


@dataclass(frozen=True)
class Artifact:
    """A published artifact: its directory and its manifest."""

    directory: Path
    manifest: Manifest
    digest: str

    @property
    def kind(self) -> Kind:
        return self.manifest.kind

    @property
    def short(self) -> str:
        """The first twelve characters of the digest, as shown to people."""
        return self.digest[:12]

    def path(self, name: str) -> Path:
        """Return the path of a file listed in the manifest. Raises KeyError where it is not."""
        if all(entry.path != name for entry in self.manifest.files):
            raise KeyError(f"artifact {self.short} has no file {name!r}")
        return self.directory / name

    def run_record(self) -> dict[str, Any]:
        """Return what the digest leaves out: clock, host, durations. Empty where there is none."""
        path = self.directory / RUN
        return json.loads(path.read_text()) if path.exists() else {}


def list_files(directory: Path, roles: dict[str, str] | None = None) -> tuple[FileEntry, ...]:
    """Hash every regular file below ``directory``, sorted by path; ``roles`` maps path to role.

    Raises IntegrityError on a link (it does not survive a copy, and can point outside), on a
    pipe or a socket, and on a name that would not be the same path everywhere.
    """
    entries = []
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path}: an artifact holds real files, not links or pipes")
        name = path.relative_to(directory).as_posix()
        if "\\" in name or not name.isprintable():
            raise IntegrityError(f"{directory}: {name!r} is no portable file name")
        if path.is_file() and name not in (MANIFEST, RUN):
            role = (roles or {}).get(name, "other")
            entries.append(
                FileEntry(path=name, size=path.stat().st_size, sha256=file_sha256(path), role=role)
            )
    return tuple(entries)
