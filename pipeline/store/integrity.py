"""Whether the files of a published artifact are those that its manifest lists."""

from __future__ import annotations

from pathlib import Path

from rarefy.pipeline.store.artifact import MANIFEST, RUN, Artifact, Manifest
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError

REMEDY = "remove it with `rarefy artifact gc --damaged --yes`, and the next run rebuilds it"


def opened(directory: Path, digest: str) -> Artifact:
    """Return the artifact in a directory, after checking its manifest and the files' sizes.

    Raises IntegrityError if they are wrong, NewerError if a newer version of rarefy made the
    artifact, and ProviderError if this user may not read it.
    """
    name = f"artifact {digest[:12]}"
    try:
        manifest = Manifest.parse((directory / MANIFEST).read_bytes(), name)
    except PermissionError as error:
        raise unreadable(directory / MANIFEST, error) from error
    except (OSError, ValueError):
        raise IntegrityError(f"{name}: its manifest is damaged; {REMEDY}") from None
    if manifest.digest != digest:
        raise IntegrityError(f"{name}: its manifest was modified; {REMEDY}")
    for entry in manifest.files:
        path = directory / entry.path
        if not path.is_file() or path.stat().st_size != entry.size:
            raise IntegrityError(f"{name}: {entry.path} is missing or truncated; {REMEDY}")
    return Artifact(directory, manifest, digest)


def changes(artifact: Artifact) -> list[str]:
    """Hash every file again; return how the files differ from the manifest.

    Raises FileNotFoundError if a file has vanished since the artifact was opened, ProviderError if
    this user may not read one.
    """
    problems = []
    for entry in artifact.manifest.files:
        path = artifact.directory / entry.path
        try:
            changed = file_sha256(path) != entry.sha256
        except PermissionError as error:
            raise unreadable(path, error) from error
        if changed:
            problems.append(f"{entry.path}: the content has changed since it was published")
    listed = {entry.path for entry in artifact.manifest.files} | {MANIFEST, RUN}
    for path in artifact.directory.rglob("*"):
        name = path.relative_to(artifact.directory).as_posix()
        if path.is_file() and name not in listed:
            problems.append(f"{name}: not listed in the manifest")
    return problems


def unreadable(path: Path, error: OSError) -> ProviderError:
    """Return the error of a user who may not read a file of the store."""
    return ProviderError(
        f"{path}: cannot read this file: {error.strerror}; another user owns it: get read "
        "permission for the store"
    )
