"""Files that are compressed, read up to a bound: a few bytes may stand for any number."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rarefy.pipeline.terms import bounds
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.wording import size


def most(path: Path) -> int:
    """Return how many bytes a compressed file may expand to."""
    return max(bounds.EXPANDED, bounds.RATIO * path.stat().st_size)


def refusal(reference: str) -> DataError:
    """Return the error of a file that expands beyond that."""
    return DataError(
        f"{reference}: expands to more than {bounds.RATIO} times its size; if that is intended, "
        "give an uncompressed JSONL file"
    )


class _Expanding(io.RawIOBase):
    """What a compressed file holds; more than ``most`` bytes of it are refused."""

    def __init__(self, file: IO[bytes], most: int, reference: str) -> None:
        self._file, self._most, self._reference = file, most, reference
        self._read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        self._read += len(content)
        if self._read > self._most:
            raise refusal(self._reference)
        buffer[: len(content)] = content
        return len(content)


@contextmanager
def opened(path: Path, reference: str) -> Iterator[IO[bytes]]:
    """Open a file of bytes, which may be compressed.

    What it gives raises DataError once it has expanded beyond all measure; ``reference``: what
    errors call the file.
    """
    import fsspec

    with fsspec.open(str(path), "rb", compression="infer") as file:
        if fsspec.utils.infer_compression(str(path)) is None:
            yield file
            return
        with io.BufferedReader(_Expanding(file, most(path), reference), 1 << 16) as bounded:
            yield bounded


def lines(file: IO[bytes], reference: str) -> Iterator[bytes]:
    """Yield the lines of a file. Raises DataError at one that is longer than any row."""
    while line := file.readline(bounds.LINE + 1):
        if len(line) > bounds.LINE:
            raise DataError(
                f"{reference}: a line has more than {size(bounds.LINE)}; write one row in each line"
            )
        yield line
