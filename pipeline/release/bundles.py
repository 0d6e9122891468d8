"""Find a bundle by the name that a user gives: a run, a folder, a tag or a digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from rarefy.pipeline.model.runtime.adapter_file import FILE
from rarefy.pipeline.model.runtime.bundle_files import MODEL
from rarefy.pipeline.run import names
from rarefy.pipeline.store.artifact import MANIFEST, RUN, Artifact, Kind, Manifest
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.store.tags import GoneError
from rarefy.pipeline.terms import json_text, wording
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError
from rarefy.pipeline.terms.recipe_parts import REMOTE_TAG


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder and its manifest; ``manifest`` is None if the folder has none."""

    name: str
    directory: Path
    manifest: Manifest | None

    @property
    def digest(self) -> str:
        """The digest of the manifest; the bundle's path if it has none."""
        return self.manifest.digest if self.manifest else str(self.directory)

    @property
    def artifact(self) -> Artifact:
        """The bundle as an artifact. Raises IntegrityError if it has no manifest."""
        if self.manifest is None:
            raise IntegrityError(f"{self.directory}: the bundle has no manifest.json")
        return Artifact(self.directory, self.manifest, self.manifest.digest)


class _Judged(BaseModel):
    """What a run's verdict.json says of the bundle beside it."""

    bundle: str | None = None


def named(reference: Path | str) -> str:
    """Return a name as ``find`` takes it; a Path is a folder, also if a run has its name."""
    if isinstance(reference, Path) and reference.name == str(reference):
        return f"./{reference}"
    return str(reference)


def is_run(reference: str, home: Home) -> bool:
    """Return whether a bare name is that of a run with a bundle."""
    if Path(reference).name != reference:
        return False
    return (home.runs / reference / names.BUNDLE / MODEL).is_file()


def find(reference: str, home: Home) -> Bundle:
    """Return the bundle with this run name, folder, run folder, tag or digest, in this order.

    A folder that is no bundle hides no tag of its name. A ``URL#tag`` is pulled from the remote
    store. Raises RecipeError if there is no such bundle, if the artifact is of another kind, or if
    a run has this name, but only a folder has a bundle. Raises IntegrityError if the manifest is
    damaged, or is another than that of the bundle that its run's verdict is on.
    """
    folders = home.folders(reference)
    first = folders[0]
    for folder in folders:
        for directory in (folder, folder / names.BUNDLE):
            if not (directory / MODEL).is_file():
                continue
            if folder != first and (first / RUN).is_file():
                raise RecipeError(
                    f"{reference}: the run of this name has no bundle; write ./{reference} for "
                    "the folder"
                )
            manifest = _manifest(directory)
            _check_judged(directory, manifest)
            return Bundle(reference, directory, manifest)
    artifact = _stored(reference, home)
    if artifact.kind is not Kind.BUNDLE:
        raise RecipeError(
            f"{reference}: this is the {artifact.kind} that {artifact.manifest.stage.name!r} "
            "made, not a bundle; 'export' makes bundles"
        )
    return Bundle(reference, artifact.directory, artifact.manifest)


def adapter_of(reference: str, home: Home) -> Path:
    """Return the adapter's file of a bundle by its name.

    Raises RecipeError if there is no such bundle or it has no such file, IntegrityError if it is
    damaged.
    """
    if Path(reference).suffix == Path(FILE).suffix:
        raise RecipeError(f"{reference}: no such adapter")
    bundle = find(reference, home)
    check_bytes(bundle)
    path = bundle.directory / FILE
    if not path.is_file():
        raise RecipeError(
            f"{reference}: this bundle has no {FILE}, which 'adapt' without 'merge' gives"
        )
    return path


def check_bytes(bundle: Bundle) -> None:
    """Raise IntegrityError if a file of the bundle does not match its manifest, if it has one.

    The store checks only file sizes when it opens an artifact, so the files are hashed here.
    """
    for entry in bundle.manifest.files if bundle.manifest else ():
        path = bundle.directory / entry.path
        if not path.is_file() or file_sha256(path) != entry.sha256:
            raise IntegrityError(
                f"{bundle.name}: {entry.path} does not match the digest in the bundle's "
                "manifest.json, so a verdict would not be about this bundle"
            )


def _stored(reference: str, home: Home) -> Artifact:
    if REMOTE_TAG in reference:
        from rarefy.pipeline.store.remote import artifacts

        return artifacts.pull(home.store(), *artifacts.split(reference))
    store = home.path / "store"
    if store.is_dir():  # or it would be created, for the typing error in a name
        try:
            return home.store().open(reference)
        except GoneError:
            raise
        except RecipeError:
            pass
    if Path(reference).is_dir():
        raise RecipeError(f"{reference}: this folder is not a bundle: it has no {MODEL}")
    if Path(reference).is_file():
        raise RecipeError(
            f"{reference}: a file is not a bundle; name a run or a folder, which is measured again"
        )
    near = wording.file_hint(home.runs / reference, folders=True)
    raise RecipeError(
        f"{reference}: no such bundle: it is not a run in {home.runs}, not a folder "
        f"with {MODEL}, and not a tag or digest in {store}{near}"
    )


def run_folder(directory: Path) -> Path | None:
    """Return the folder of the run that has a bundle's folder; None if it lies elsewhere."""
    if directory.name in ("", ".."):  # of `.` and `..`
        directory = directory.resolve()
    if directory.name == names.BUNDLE:
        return directory.parent
    return None


def _manifest(directory: Path) -> Manifest | None:
    path = directory / MANIFEST
    if not path.is_file():
        return None
    try:
        return Manifest.parse(path.read_bytes(), str(directory))
    except ValueError:
        raise IntegrityError(f"{path}: the bundle's manifest is damaged") from None


def _check_judged(directory: Path, manifest: Manifest | None) -> None:
    """Raise IntegrityError if the verdict of a run is on another bundle than the one beside it.

    The verdict is the last file that a run writes: without one, the bundle may be a new one.
    """
    place = run_folder(directory)
    if place is None:
        return
    try:
        verdict = json_text.ours(place / names.VERDICT, _Judged, "run the recipe again")
    except FileNotFoundError:
        return
    digest = manifest.digest if manifest else None
    if verdict.bundle is not None and verdict.bundle != digest:
        raise IntegrityError(
            f"{place / names.BUNDLE}: the verdict of this run is on bundle "
            f"{verdict.bundle[:12]}, not on this one; run the recipe again"
        )
