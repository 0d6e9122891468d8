"""What a user may call a bundle: a directory, a run, a tag, or a digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.options import Home
from pipeline.artifact import Artifact, Kind, Manifest
from pipeline.errors import IntegrityError, RecipeError
from pipeline.recipe import REMOTE_TAG

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


def _stored(reference: str, home: Home) -> Artifact:
    if REMOTE_TAG in reference:
        from pipeline import remote

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
