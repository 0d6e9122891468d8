"""The answers of measured models as arrays, in a file beside the JSON.

As JSON, the answers of three models to 20,000 rows with 100 labels take 53 MB; as arrays, 24 MB.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.measure.measurements import FILE as JSON
from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.terms.digests import file_sha256

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "answers.safetensors"
SCHEMA = "rarefy.answers/1"
LINEAR = ("linear", "probe")
"""The names of the answers of linear models: on words, and on embeddings."""
APART: dict[str, Any] = {
    "models": {"__all__": {"answers"}},
    "predicted": {"__all__": {"answers"}},
    "elsewhere": True,
    **{name: {"answers"} for name in LINEAR},
}
"""What the JSON leaves out, in pydantic's notation."""
DIGITS = 7
"""Answers are rounded to this many digits, which float32 holds exactly enough to restore."""
_LEAST = 1e-45  # of float32


def decimals(table: NDArray[np.float64]) -> int:
    """Return to how many decimals answers are rounded: 7, or more if all are small.

    Probabilities have 7 decimals; the largest of answers that are all below 0.1 has 7 digits.
    """
    import numpy as np

    largest = np.abs(table).max(initial=_LEAST, where=np.isfinite(table))
    exponent = math.floor(math.log10(largest))
    return DIGITS + max(0, -1 - exponent)


def save(measured: Measurements, folder: Path) -> dict[str, str]:
    """Write measurements.json and the answers beside it into a folder; return the files' roles."""
    measured = write(measured, folder / FILE)
    text = measured.model_dump_json(by_alias=True, exclude=APART)
    (folder / JSON).write_text(text, encoding="utf-8")
    return {JSON: "measurements", FILE: "answers"}


def load(folder: Path) -> Measurements:
    """Read what ``save`` wrote. Raises ValueError if it cannot be read."""
    measured = Measurements.model_validate_json((folder / JSON).read_bytes())
    return read(measured, folder / FILE)


def write(measured: Measurements, path: Path) -> Measurements:
    """Write the answers to ``path``; return the measurements with the file's digest.

    Equal answers give equal bytes. They are read back exactly as they are.
    """
    import numpy as np
    from safetensors.numpy import save

    tables = {f"model/{name}": model.answers for name, model in measured.models.items()}
    for target, table in measured.elsewhere.items():
        tables[f"elsewhere/{target}"] = table
    for name, predicted in measured.predicted.items():
        tables[f"predicted/{name}"] = predicted.answers
    for name in LINEAR:
        if model := getattr(measured, name):
            tables[name] = model.answers
    arrays = {name: _narrow(np.asarray(table, float)) for name, table in tables.items()}
    # Not ``save_file``, which lets nobody but this user read the file, whatever the umask.
    path.write_bytes(save(arrays, metadata={"schema": SCHEMA}))
    return measured.model_copy(update={"answers_sha256": file_sha256(path)})


def read(measured: Measurements, path: Path) -> Measurements:
    """Return measurements read from JSON with their answers from ``path``.

    Raises ValueError if the file is missing or belongs to other measurements.
    """
    from safetensors.numpy import load_file

    if not path.is_file():
        raise ValueError(f"{path.name} is missing next to the JSON file; copy both")
    if file_sha256(path) != measured.answers_sha256:
        raise ValueError(f"{path.name} belongs to other measurements")
    tables = {name: _widen(table).tolist() for name, table in load_file(path).items()}
    models = {}
    for name, model in measured.models.items():
        models[name] = model.model_copy(update={"answers": tables[f"model/{name}"]})
    elsewhere = {}
    for name, table in tables.items():
        room, _, target = name.partition("/")
        if room == "elsewhere" and target:
            elsewhere[target] = table
    others = {}
    for name, predicted in measured.predicted.items():
        others[name] = predicted.model_copy(update={"answers": tables[f"predicted/{name}"]})
    whole: dict[str, Any] = {"models": models, "predicted": others}
    whole |= {"elsewhere": elsewhere, "answers_sha256": ""}
    for name in LINEAR:
        if model := getattr(measured, name):
            whole[name] = model.model_copy(update={"answers": tables[name]})
    return measured.model_copy(update=whole)


def _narrow(table: NDArray[np.float64]) -> NDArray[Any]:
    """Return the table as float32 if that restores it exactly, as it does rounded answers."""
    import numpy as np

    narrow = table.astype(np.float32)
    if np.array_equal(_widen(narrow), table, equal_nan=True):
        return narrow
    return table


def _widen(table: NDArray[Any]) -> NDArray[np.float64]:
    import numpy as np

    if table.dtype == np.float64:
        return table
    wide: NDArray[np.float64] = table.astype(np.float64)
    return wide.round(decimals(wide))
