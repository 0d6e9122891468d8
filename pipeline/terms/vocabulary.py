"""Basic parts of a recipe: names, the data to read, the targets to measure on."""

from __future__ import annotations

import os
import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NAME: Final = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
Name = Annotated[str, Field(pattern=NAME.pattern)]
REMOTE_TAG: Final = "#"
"""Separates a store's URL from a tag in that store."""


class Part(BaseModel):
    """Base of the recipe's parts: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Reference = Annotated[
    str,
    BeforeValidator(lambda given: os.fspath(given) if isinstance(given, os.PathLike) else given),
]
"""Where a file is; from Python also as a Path."""


class Data(Part):
    """The labelled text, and which columns to read.

    A reference is a JSONL, CSV, TSV or Parquet file relative to the recipe's folder,
    ``package:import_name/file`` or ``hub:owner/name@revision/path/in/the/repository.parquet``.
    """

    train: Reference
    eval: Reference
    unlabelled: Reference | None = Field(
        None, description="in-domain text for the teacher to label"
    )
    text: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = Field(
        "text", description="the text column, or two columns for a sentence pair"
    )
    label: str = "label"
    slices: tuple[str, ...] = Field(
        (), description="columns of the eval split; accuracy is also reported for each value"
    )
    max_length: int = Field(
        128, ge=4, le=8192, description="in tokens; longer rows are truncated, and counted"
    )

    @property
    def text_columns(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def references(self) -> dict[str, str]:
        """Return split name -> reference, for the splits that the recipe defines."""
        pairs = {"train": self.train, "eval": self.eval, "unlabelled": self.unlabelled}
        return {name: reference for name, reference in pairs.items() if reference}


class Target(Part):
    """A setting to measure on: execution provider and number of intra-op threads."""

    name: Name = "cpu"
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    threads: int = Field(default=1, ge=1, le=1024)
