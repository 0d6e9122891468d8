"""What an ONNX file may refer to: tensors in plain files beside it, and nothing else."""

from __future__ import annotations

import mmap
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from rarefy.pipeline.terms.errors import IntegrityError, first_line


def check_graph(path: Path) -> None:
    """Reject an ONNX file that would read files outside its own directory.

    The runtime follows the paths of external tensors (CVE-2022-25882, CVE-2024-27318). Each path
    must be the plain name of a regular file in the same directory, with a single hard link, and the
    tensor must lie within that file. The graph's own file must then be one, too, because a link may
    have another directory; without external tensors it may be a link, as in a cache.

    Raises:
        IntegrityError: if an external tensor breaks these rules.
    """
    if not path.is_file():
        raise IntegrityError(f"{path}: not a file")
    # Every external tensor contains the key "location". If the file does not contain it, there are
    # no external tensors, and the graph need not be parsed.
    if path.stat().st_size == 0:
        raise IntegrityError(f"{path}: the file is empty")
    if not contains(path, b"location"):
        return
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        graph = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # of protobuf, which has no class for all of them
        raise IntegrityError(f"{path}: not an ONNX graph: {first_line(error)}") from error
    for tensor in _tensors(graph):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            _check_external(path, tensor.name, info.location, info.offset or 0, info.length or 0)


def contains(path: Path, text: bytes) -> bool:
    """Return whether a file that is not empty contains these bytes; it is not read into memory."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(text) >= 0


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor of a graph, wherever it is: in attributes, subgraphs, sparse tensors.

    onnx's own list leaves out the indices and values of sparse tensors.
    """
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                yield from _tensors(part)


def _check_external(path: Path, tensor: str, location: str, offset: int, length: int) -> None:
    parts = PurePosixPath(location).parts
    if len(parts) != 1 or parts[0] in ("..", "/") or "\\" in location or ":" in location:
        raise IntegrityError(
            f"{path}: tensor {tensor!r} refers to {location!r}, outside the bundle"
        )
    beside = path.parent / location
    _regular(path)
    _regular(beside)
    if offset < 0 or length < 0 or offset + length > beside.stat().st_size:
        raise IntegrityError(f"{path}: tensor {tensor!r} reads past the end of {location}")


def _regular(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise IntegrityError(f"{path}: the graph needs this file, but it is missing") from None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise IntegrityError(f"{path}: not a regular file with a single hard link; copy the files")
