"""Basic parts of a recipe: quantities, names, the data to read, the targets to measure on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.wording import repeated

_SCALES = {
    "": 1.0,
    "%": 0.01,
    "x": 1.0,
    "×": 1.0,
    "ms": 1.0,
    "us": 1e-3,
    "µs": 1e-3,
    "s": 1e3,
    "b": 1.0,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 2.0**10,
    "mib": 2.0**20,
    "gib": 2.0**30,
}
_KINDS = {"%": "a percentage", "x": "a factor", "×": "a factor", "": ""}
_SUFFIXES = {"b": "a size", "s": "a time"}
_NUMBER = r"\s*([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*"
_PATTERN = re.compile(_NUMBER + r"([a-zµ%×]*)\s*")
_POINTS = re.compile(_NUMBER + r"points?\s*")

NAME: Final = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
REMOTE_TAG: Final = "#"
"""Separates a store's URL from a tag in that store."""
LARGEST_SHARE: Final = 0.5
"""The largest share of train that may be cut off, for dev or eval."""
MODEL: Final = "model"
"""The id of the step that imports the recipe's own model."""
LINEAR: Final = "linear"
"""The id and kind of the linear model's row in the ledger, which is no stage's."""
ANCHOR: Final = "anchor"
"""The tag of a release that stays: budgets against it bound what all later ones lose together."""
CANDIDATE: Final = "candidate"
"""The measured bundle."""
FASTEST_FLOAT: Final = "openvino"
"""The first checkpoint among the references, in OpenVINO's float default: the fastest form of a
float model that we know."""
RESERVED: Final = {
    LINEAR: "the linear model",
    CANDIDATE: "the measured bundle",
    FASTEST_FLOAT: "the first reference in OpenVINO",
}
"""Names of measured models that no stage may have, and what they are."""
BAG_OF_TOKENS: Final = "rarefy-bag-of-tokens"
"""The ``model_type`` of our own model without attention, in ``rarefy.pipeline.model``."""
MOST_THREADS: Final = 1024
MOST_WORKERS: Final = 1024
MOST_TOGETHER: Final = 4096
"""Rows of a call."""
THRESHOLDS: Final = "thresholds"
"""The key of config.json under which each label's threshold is kept."""


def parse_quantity(value: Any) -> Any:
    """Return ``value`` as a number: percentages as fractions, times in ms, sizes in bytes.

    Values that are not strings pass through unchanged. Raises ValueError if a string is not a
    quantity or the value is a bool.
    """
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    if not isinstance(value, str):
        return value
    match = _PATTERN.fullmatch(_plain(value))
    if not match or match[2] not in _SCALES:
        raise ValueError(
            f"{value!r} is not a quantity; write it like 0.03, '3%', '20 MB', '5 ms' or '5x'"
        )
    return float(match[1]) * _SCALES[match[2]]


def count_points(text: str) -> float:
    """Return the number of percentage points in a text: 3 for ``3 points``.

    Raises ValueError if the text is a share or anything else.
    """
    match = _POINTS.fullmatch(text.lower())
    if match:
        return float(match[1])
    share = _PATTERN.fullmatch(text)
    if share and share[2] == "%":
        unit = "point" if float(share[1]) == 1 else "points"
        raise ValueError(f"a difference is in percentage points; write {share[1]} {unit}")
    raise ValueError(f"{text!r} is not a number of percentage points; write it like '3 points'")


def parse_points(value: Any) -> Any:
    """Return a difference as a fraction: 0.03 for ``3 points``; a number is one already.

    Raises ValueError as ``count_points`` does, or if the value is a bool.
    """
    if isinstance(value, str):
        return count_points(value) / 100
    return parse_quantity(value)


def quantity_kind(value: Any) -> str:
    """Return the kind that a quantity's unit implies, e.g. "a time"; "" if it has no unit."""
    if not isinstance(value, str):
        return ""
    match = _PATTERN.fullmatch(_plain(value))
    if not match or match[2] not in _SCALES:
        return ""
    unit = match[2]
    return _KINDS.get(unit) or _SUFFIXES.get(unit[-1:], "")


def _plain(text: str) -> str:
    # Keyboards produce two different micro signs that look the same.
    return text.lower().replace("μ", "µ")


Quantity = Annotated[
    float, BeforeValidator(parse_quantity), WithJsonSchema({"type": ["number", "string"]})
]
Points = Annotated[
    float, BeforeValidator(parse_points), WithJsonSchema({"type": ["number", "string"]})
]
"""A difference of two shares, as a fraction."""


Name = Annotated[str, Field(pattern=NAME.pattern)]


class Part(BaseModel):
    """Base of the recipe's parts: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Reference = Annotated[
    str,
    BeforeValidator(lambda path: os.fspath(path) if isinstance(path, os.PathLike) else path),
]
"""Where a file is; from Python also as a Path."""


def _written(share: Any) -> Any:
    return str(share) if isinstance(share, float) else share


def _label_names(labels: Any) -> Any:
    """Return labels as text: whole numbers may be written without quotes."""
    if not isinstance(labels, list | tuple):
        return labels
    return [label_name(label) for label in labels]


def label_name(label: Any) -> Any:
    """Return a label as text: a whole number may be written without quotes."""
    return str(label) if type(label) is int else label


def share_of(text: str) -> float | None:
    """Return a share, written as 5% or 0.05, or None for any other text."""
    try:
        share: float = parse_quantity(text)
    except ValueError:
        return None
    return share


class Data(Part):
    """The labelled text, and which columns to read.

    A reference is a JSONL, CSV, TSV or Parquet file relative to the recipe's folder,
    ``https://…`` or ``s3://…`` (also with ``#sha256=…`` after it), ``package:import_name/file`` or
    ``hub:owner/name@revision/path/in/the/repository.parquet``.
    """

    train: Reference = Field(description="Training rows")
    eval: Annotated[Reference, BeforeValidator(_written)] = Field(
        description="Held-out rows for the final measurement, by which nothing is chosen: a "
        "file, or the share of train to split off"
    )
    dev: Annotated[Reference, BeforeValidator(_written)] = Field(
        default="5 %",
        description="Development split, by which everything is chosen: the share of train to "
        "split off, at most 2,000 rows, or a file",
    )
    unlabelled: Reference | None = Field(
        default=None, description="File of in-domain text that the teacher labels"
    )
    text: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = Field(
        default="text", description="Text column, or the two columns of a sentence pair"
    )
    label: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default="label",
        description="Label column; null: the model's own predictions serve as the labels",
    )
    labels: Annotated[tuple[str, ...], BeforeValidator(_label_names)] | None = Field(
        default=None,
        min_length=1,
        description="Labels in the order of the model's outputs, if its head has other names "
        "for them; by default, LABEL_0, LABEL_1, … are 0, 1, …",
    )
    corpus: Reference | None = Field(
        default=None,
        description="Documents that a query searches: a file with the columns id and text",
    )
    negatives: str | None = Field(
        default=None,
        description="Column of train with texts that a query must not find: one or a list",
    )
    group: str | None = Field(
        default=None,
        description="Column whose equal values belong together, such as a query or a user; "
        "intervals resample whole groups",
    )
    id: str | None = Field(
        default=None,
        description="Column that identifies a row, by which a file of predictions may be joined "
        "(label: file)",
    )
    slices: tuple[str, ...] = Field(
        default=(),
        description="Columns of the eval split; accuracy is also reported for each of their values",
    )
    max_length: int = Field(
        default=128,
        ge=4,
        le=8192,
        description="Maximum length of a row, in tokens; longer rows are truncated and counted",
    )
    long_texts: Literal["cut", "windows"] = Field(
        default="cut",
        description="Whether longer texts are cut off, or read in windows whose outputs are "
        "averaged",
    )

    @property
    def text_columns(self) -> tuple[str, ...]:
        if isinstance(self.text, str):
            return (self.text,)
        return self.text

    @field_validator("dev", "eval", mode="after")
    @classmethod
    def _share_or_file(cls, value: str) -> str:
        share = share_of(value)
        if share is not None and not 0 < share <= LARGEST_SHARE:
            most = f"{100 * LARGEST_SHARE:g}%"
            raise ValueError(f"{value!r} is a share of train; give one up to {most}, or a file")
        return value

    @field_validator("labels", mode="after")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = repeated(value or ())
        if twice is not None:
            raise ValueError(f"the label {twice!r} is listed twice")
        return value

    @property
    def eval_share(self) -> float:
        """The share of train that becomes the eval split; 0 if that is a file."""
        return share_of(self.eval) or 0.0

    @property
    def share(self) -> float:
        """The share of train that becomes the development split; 0 if that is a file."""
        return share_of(self.dev) or 0.0

    @property
    def dev_file(self) -> str | None:
        """The reference of the development split; None if it is cut from train."""
        return self.dev if share_of(self.dev) is None else None

    @property
    def label_columns(self) -> tuple[str, ...]:
        label = self.label or ()
        return (label,) if isinstance(label, str) else label

    @property
    def search_option(self) -> str | None:
        """The first option that is given of those that only a search has; None if none is."""
        if self.corpus:
            return "corpus"
        return "negatives" if self.negatives else None

    @property
    def references(self) -> dict[str, str]:
        """Return split name -> reference, for the splits that the recipe defines."""
        eval_file = None if self.eval_share else self.eval
        pairs = {"train": self.train, "dev": self.dev_file, "eval": eval_file}
        pairs |= {"unlabelled": self.unlabelled, "corpus": self.corpus}
        return {name: reference for name, reference in pairs.items() if reference}


Provider = Literal["cpu", "cuda", "tensorrt", "openvino"]
"""ONNX Runtime's execution provider, or OpenVINO itself, which needs the extra ``openvino``."""

Isa = Literal["avx2", "vnni"]
"""What a CPU must have for int8: ``avx2`` is right on every CPU, of every architecture."""

Method = Literal["min-max", "mse"]
"""How the range of a layer's inputs is chosen in calibration."""
Embeddings = Literal["int8", "int4", "float"]
"""What the embeddings of the vocabulary are stored in."""


def check_threads(threads: int | None) -> None:
    """Raise RecipeError if a number of threads is given that no target may have."""
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise RecipeError(f"threads: {threads!r}, expected 1 to {MOST_THREADS}")


class Target(Part):
    """A setting to measure on: what runs the bundle, and the number of intra-op threads."""

    name: Name = Field(default="cpu", description="Name of the target in budgets and reports")
    provider: Provider = Field(
        default="cpu",
        description="Execution provider of ONNX Runtime, or OpenVINO itself, on the CPU",
    )
    threads: int = Field(
        default=1, ge=1, le=MOST_THREADS, description="Number of intra-op threads of a model call"
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=MOST_WORKERS,
        description="Number of processes that answer at once when throughput is measured, each "
        "with `threads` threads; default: as many as there are cores for, on a GPU one",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TOGETHER,
        description="Rows of a call when throughput is measured; default: the fastest of 1, 8, 32 "
        "and 64 on this machine, for each model; 1 in dynamic int8",
    )
    isa: Isa = Field(
        default="avx2",
        description="Instruction set of int8 on the CPU: avx2 is correct on every CPU; vnni is "
        "slightly more precise, and rejected on CPUs without VNNI",
    )

    def as_json(self) -> dict[str, Any]:
        """Return what a fingerprint holds of it; what is not given is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    @model_validator(mode="after")
    def _isa_of_a_cpu(self) -> Target:
        if self.isa != "avx2" and self.provider != "cpu":
            raise ValueError(
                f"'isa' applies to the cpu provider only; remove it from {self.name!r}"
            )
        return self


def first_cpu_target(targets: Iterable[Target]) -> Target:
    """Return the first target that ONNX Runtime runs on the CPU; the recipe has one."""
    return next(target for target in targets if target.provider == "cpu")


Share = Annotated[Quantity, Field(gt=0, le=1)]


class Threshold(Part):
    """What decides each label's threshold: exactly one of ``precision`` and ``recall``."""

    precision: Share | None = Field(
        default=None,
        description="Least share of correct rows among those that get a label: as many as "
        "possible get one",
    )
    recall: Share | None = Field(
        default=None,
        description="Least share of a label's rows that get it: as few others as possible do",
    )

    @model_validator(mode="after")
    def _one(self) -> Threshold:
        if (self.precision is None) == (self.recall is None):
            raise ValueError("give exactly one of precision and recall")
        return self
