"""Artifacts: immutable directories identified by the digest of their manifest."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.digests import SHA256, canonical_json, file_sha256
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError, RarefyError

SCHEMA: Final = "rarefy.artifact/1"
MANIFEST = "manifest.json"
RUN = "run.json"
_NUMBERED = re.compile(r"rarefy\.artifact/(\d+)")


class NewerError(RarefyError):
    """An artifact was made by a newer version of rarefy: not damage, and never garbage (exit 6)."""

    exit_code: ClassVar[int] = IntegrityError.exit_code


class Kind(StrEnum):
    """The kind of an artifact, which decides which stages accept it.

    ``encoder``     a pretrained body without a head for the task
    ``checkpoint``  a model with the task's head: config, safetensors, tokenizer
    ``adapter``     a checkpoint with a trained, unmerged adapter under ``adapter/``
    ``bundle``      an ONNX model with all files needed for inference
    ``report``      measurements of other artifacts
    ``transfer-set``  texts to distill with, and perhaps teachers' answers to them
    """

    ENCODER = "encoder"
    CHECKPOINT = "checkpoint"
    ADAPTER = "adapter"
    BUNDLE = "bundle"
    REPORT = "report"
    TRANSFER_SET = "transfer-set"


MODELS = frozenset({Kind.ENCODER, Kind.CHECKPOINT, Kind.ADAPTER, Kind.BUNDLE})
"""The kinds that are a model."""
HEADED = (Kind.CHECKPOINT, Kind.ADAPTER)
"""The kinds of models with a head that can be trained."""


class Record(BaseModel):
    """Base of the manifest's parts: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(Record):
    """One file: POSIX path relative to the artifact, size in bytes, sha256 in hex, role."""

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256)
    role: str = "other"

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        parts = PurePosixPath(value).parts
        if not value or value.startswith("/") or "\\" in value or ".." in parts:
            raise ValueError(f"path {value!r} must be relative and stay inside the artifact")
        return value


class Parent(Record):
    """An artifact that this one was made from, and its role: input, teacher, base, reference."""

    digest: str
    role: str


class StageRecord(Record):
    """The stage run that produced an artifact."""

    name: str
    version: int
    parameters: dict[str, Any]
    fingerprint: str


class Source(Record):
    """The origin of an imported model."""

    reference: str
    revision: str | None = None
    licence: str | None = None


class DataRecord(Record):
    """A data file that was read, with the sha256 of its bytes."""

    name: str
    split: str
    rows: int
    sha256: str


class Metric(Record):
    """A measured value with its 95 % confidence interval; ``n`` counts the rows or samples."""

    name: str
    split: str | None = None
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Curve(Record):
    """The losses of a training: their means over equal parts of its steps."""

    steps: int
    losses: tuple[float, ...]


class Manifest(Record):
    """The contents and provenance of an artifact. The digest is the hash of its canonical JSON."""

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

    @classmethod
    def parse(cls, data: bytes, name: str) -> Manifest:
        """Parse a manifest; ``name`` says in errors what it belongs to.

        Raises NewerError if a newer version of rarefy wrote it, ValueError if it is damaged: also
        if its bytes are not canonical, as the digest is of those. The schema is read first, because
        a newer version may change anything else.
        """
        values = json_text.parse(data)
        version = _schema_version(values)
        if version > _schema_version({"schema": SCHEMA}):
            raise NewerError(
                f"{name}: made by a newer version of rarefy (manifest schema {version}); "
                "upgrade rarefy"
            )
        manifest = cls.model_validate(values)
        if manifest.canonical() != data:
            raise ValueError(f"{name}: the manifest is not canonical JSON")
        return manifest

    def canonical(self) -> bytes:
        """Return the manifest as canonical JSON: sorted keys, no spaces, UTF-8, no NaN."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON, which identifies the artifact."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def size(self) -> int:
        """Total size of all files in bytes."""
        return sum(entry.size for entry in self.files)


def _schema_version(values: Any) -> int:
    """Return the number of a manifest's schema; 0 if there is none."""
    if not isinstance(values, dict):
        return 0
    match = _NUMBERED.fullmatch(str(values.get("schema")))
    return int(match[1]) if match else 0


@dataclass(frozen=True)
class Artifact:
    """A published artifact: its directory, manifest and digest."""

    directory: Path
    manifest: Manifest
    digest: str

    @property
    def kind(self) -> Kind:
        return self.manifest.kind

    @property
    def identity(self) -> str:
        """The sha256 that the fingerprints of steps that read the artifact contain.

        It is the digest, but for a transfer set the sha256 of its content alone: a set that is made
        again because eval has changed mostly has the same texts.
        """
        if self.kind is not Kind.TRANSFER_SET:
            return self.digest
        content = self.manifest.model_dump(mode="json", include={"kind", "files", "model"})
        return hashlib.sha256(canonical_json(content)).hexdigest()

    @property
    def short(self) -> str:
        """The first twelve characters of the digest, for display."""
        return self.digest[:12]

    def path(self, name: str) -> Path:
        """Return the path of a file in the manifest. Raises KeyError if it is not listed."""
        names = {entry.path for entry in self.manifest.files}
        if name not in names:
            raise KeyError(f"artifact {self.short} has no file {name!r}")
        return self.directory / name

    def run_record(self) -> dict[str, Any]:
        """Return the facts outside the digest: time, host, durations.

        Returns {} if none were saved or the file is damaged: the artifact is whole without it.
        """
        return run_record(self.directory)


def run_record(directory: Path) -> dict[str, Any]:
    """Return the facts outside an artifact's digest; {} if there are none or they are damaged."""
    try:
        return json_text.ours(directory / RUN, dict[str, Any])
    except (OSError, IntegrityError, ProviderError):
        return {}


def curves_of(record: dict[str, Any]) -> dict[str, Curve]:
    """Return the curves in an artifact's run record; {} if it has none, or they are damaged."""
    try:
        return TypeAdapter(dict[str, Curve]).validate_python(record.get("curves", {}))
    except ValidationError:
        return {}


def list_files(directory: Path, roles: dict[str, str] | None = None) -> tuple[FileEntry, ...]:
    """Hash every regular file below ``directory``, sorted by path; ``roles`` maps path to role.

    Raises IntegrityError if there is a link (it does not survive a copy and can point outside the
    directory), a pipe, a socket, or a file name that is not portable.
    """
    roles = roles or {}
    entries = []
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path}: an artifact must contain regular files only")
        name = path.relative_to(directory).as_posix()
        if "\\" in name or not name.isprintable():
            raise IntegrityError(f"{directory}: {name!r} is not a portable file name; rename it")
        if path.is_dir() or name in (MANIFEST, RUN):
            continue
        size = path.stat().st_size
        role = roles.get(name, "other")
        entries.append(FileEntry(path=name, size=size, sha256=file_sha256(path), role=role))
    return tuple(entries)
