"""Check that a verdict.json is about the bytes of a bundle; nothing else of rarefy is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rarefy.pipeline.store.artifact import MANIFEST, Kind, Manifest, list_files
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError
from rarefy.pipeline.verdict.verdict import SCHEMA, Verdict, combine

LARGEST = 16 * 2**20
"""Bytes of a verdict.json or a manifest.json; a larger one is no such file."""


def check(verdict_file: Path, bundle: Path) -> Verdict:
    """Return the verdict in a file after checking that it is on the bundle in a folder.

    The bundle's files are hashed again and compared with its manifest, and the manifest's digest
    with the one in the verdict.

    Raises:
        RecipeError: The verdict or the bundle's manifest does not exist.
        IntegrityError: One is damaged, or the verdict is on other bytes.
    """
    verdict = _read_verdict(verdict_file)
    manifest = _read_manifest(bundle)
    if verdict.bundle != manifest.digest:
        judged = "no bundle"
        if verdict.bundle is not None:
            judged = f"bundle {verdict.bundle[:12]}"
        raise IntegrityError(
            f"{verdict_file}: this verdict is on {judged}, not on {bundle}, which is "
            f"{manifest.digest[:12]}"
        )
    _check_files(bundle, manifest)
    return verdict


def _read_verdict(path: Path) -> Verdict:
    """Return a verdict whose outcome is that of its budgets."""
    values = _read_json(path)
    schema = values.get("schema")
    if schema != SCHEMA:
        raise IntegrityError(
            f"{path}: this version of rarefy reads no such verdict: schema {schema!r:.60}, not "
            f"{SCHEMA!r}"
        )
    try:
        verdict = Verdict.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityError(f"{path}: the verdict is damaged: {place}: {first['msg']}") from None
    judged = combine(verdict.budgets, verdict.evidence)
    if verdict.outcome != judged:
        raise IntegrityError(
            f"{path}: the verdict was changed: its outcome is {verdict.outcome!r}, but that of "
            f"its budgets is {judged!r}"
        )
    return verdict


def _read_manifest(bundle: Path) -> Manifest:
    path = bundle / MANIFEST
    try:
        manifest = Manifest.parse(_read(path), str(bundle))
    except ValueError:
        raise IntegrityError(f"{path}: the bundle's manifest is damaged") from None
    if manifest.kind is not Kind.BUNDLE:
        raise RecipeError(f"{bundle}: this is a {manifest.kind}, not a bundle")
    return manifest


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises IntegrityError if it is something else; see ``_read``."""
    content = _read(path)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise IntegrityError(f"{path}: not valid JSON, so the file is damaged") from None
    if not isinstance(values, dict):
        raise IntegrityError(f"{path}: not a JSON object, so the file is damaged")
    return values


def _read(path: Path) -> bytes:
    """Return a file of moderate size.

    Raises RecipeError if there is no such file, and IntegrityError if it is larger.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise IntegrityError(f"{path}: larger than {LARGEST // 2**20} MiB, so not a file of rarefy")
    return path.read_bytes()


def _check_files(bundle: Path, manifest: Manifest) -> None:
    """Raise IntegrityError if the folder has not exactly the files of its manifest."""
    expected = {entry.path: entry.sha256 for entry in manifest.files}
    present = {entry.path: entry.sha256 for entry in list_files(bundle)}
    for path in sorted(expected.keys() | present.keys()):
        if path not in present:
            raise IntegrityError(f"{bundle}: {path} is missing")
        if path not in expected:
            raise IntegrityError(f"{bundle}: {path} is not in the bundle's manifest.json")
        if present[path] != expected[path]:
            raise IntegrityError(
                f"{bundle}: {path} does not match the digest in the bundle's manifest.json"
            )
