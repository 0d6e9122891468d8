"""What a user may call a bundle: a directory, a run, a tag, or a digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.store.artifact import Artifact, Kind, Manifest
from pipeline.store.home import Home
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import IntegrityError, RecipeError
from pipeline.terms.vocabulary import REMOTE_TAG

GRAPH = "model.onnx"


@dataclass(frozen=True)
class Bundle:
    """A bundle's files; ``artifact`` where they lie in a store, else what their manifest says."""

    name: str
    directory: Path
    manifest: Manifest | None

    @property
    def digest(self) -> str:
        """The digest of its manifest; its path where a bundle has none."""
        return self.manifest.digest if self.manifest else str(self.directory)

    @property
    def artifact(self) -> Artifact:
        """The bundle as an artifact. Raises IntegrityError where its manifest is gone."""
        if self.manifest is None:
            raise IntegrityError(f"{self.directory}: the bundle has no manifest.json")
        return Artifact(self.directory, self.manifest, self.manifest.digest)


def find(reference: str, home: Home) -> Bundle:
    """Return the bundle that a directory, a run's name or folder, a tag or a digest means.

    A ``URL#tag`` is brought from the store there.

    Raises RecipeError where there is none, or where it is an artifact of another kind.
    """
    for directory in (
        Path(reference),
        Path(reference) / "bundle",
        home.runs / reference / "bundle",
    ):
        if (directory / GRAPH).is_file():
            return Bundle(reference, directory, _manifest(directory))
    if Path(reference).is_dir():
        raise RecipeError(f"{reference}: no bundle in this folder: there is no {GRAPH}")
    artifact = _stored(reference, home)
    if artifact.kind is not Kind.BUNDLE:
        raise RecipeError(
            f"{reference}: is the {artifact.kind} that {artifact.manifest.stage.name!r} made, "
            "not a bundle: 'export' makes bundles"
        )
    return Bundle(reference, artifact.directory, artifact.manifest)


def check_bytes(bundle: Bundle) -> None:
    """Raise IntegrityError where a file of a bundle is not what its manifest says, if it has one.

    Hashed and not trusted: a store's bundle is opened by its sizes alone.
    """
    for entry in bundle.manifest.files if bundle.manifest else ():
        path = bundle.directory / entry.path
        if not path.is_file() or file_sha256(path) != entry.sha256:
            raise IntegrityError(
                f"{bundle.name}: {entry.path} is not the file that the bundle's manifest.json "
                "names: what is measured would not be what the verdict says"
            )


def _stored(reference: str, home: Home) -> Artifact:
    if REMOTE_TAG in reference:
        from pipeline.store import remote

        return remote.pull(home.store(), *remote.split(reference))
    try:
        return home.store().open(reference)
    except RecipeError:
        raise RecipeError(
            f"{reference}: no bundle: it is no folder with {GRAPH}, no run in {home.runs}, and no "
            f"tag or digest in {home.path / 'store'}"
        ) from None


def _manifest(directory: Path) -> Manifest | None:
    path = directory / "manifest.json"
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValueError:
        raise IntegrityError(f"{path}: the bundle's manifest is damaged") from None
