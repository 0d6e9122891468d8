"""The quantization plan: the precision of each linear layer, stored beside a checkpoint.

``quantize`` writes the plan, ``merge`` keeps it, ``export`` applies it. Modules have their names in
the base model, without the wrappers that an adapter adds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rarefy.pipeline.terms.digests import canonical_json
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.recipe_parts import Embeddings, Isa, Method

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "quantization.json"
LARGEST = 127
PAIR = 127.99
"""The largest sum of two neighbours of a column, both positive or both negative: 255 · 128 fits
into 16 bits. A little less than 128, so that no rounding makes it 129."""


class LinearPlan(BaseModel):
    """The plan for one linear layer: precision, and how its inputs and its weight are rounded.

    Layers in int4 are computed in int8: of weights that were rounded to 4 bits before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["int8", "int4", "float"]
    low: float | None = Field(
        default=None, description="smallest input in calibration; None: set at run time"
    )
    high: float | None = None
    damage: float | None = Field(
        default=None, description="KL divergence in nats if only this layer is rounded"
    )
    factors: tuple[float, ...] | None = Field(
        default=None, description="one per input, which is divided by it; the weight is multiplied"
    )


class Calibration(BaseModel):
    """How the ranges of a static plan were found; ``rows`` are taken evenly from train."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "min-max"
    rows: int


class Plan(BaseModel):
    """The plan for a whole model; ``linears`` maps module paths to layers, for int8 only."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.quantization/6"] = Field(
        default="rarefy.quantization/6", alias="schema"
    )
    precision: Literal["int8", "fp16"] = "int8"
    mode: Literal["dynamic", "static", "mixed"] = Field(
        default="dynamic", description="mixed: layers without a range set it at run time"
    )
    calibration: Calibration | None = Field(default=None, description="of static plans")
    embeddings: Embeddings = "int8"
    linears: dict[str, LinearPlan] = Field(default_factory=dict)

    @property
    def integer_layers(self) -> dict[str, LinearPlan]:
        """The layers that are converted to integer matrix products, by module."""
        return {n: layer for n, layer in self.linears.items() if layer.precision != "float"}

    @property
    def integer_modules(self) -> list[str]:
        """The modules that are converted to integer matrix products."""
        return list(self.integer_layers)

    @property
    def shipped(self) -> Literal["int8", "fp16", "fp32"]:
        """The precision of a bundle of this plan: fp32 if the plan leaves everything in float."""
        whole = not self.integer_modules and self.embeddings == "float"
        if self.precision == "int8" and whole:
            return "fp32"
        return self.precision

    @property
    def int4_modules(self) -> list[str]:
        """Those of them whose weights are stored in 4 bits; ``blockwise`` has these."""
        return [name for name, layer in self.linears.items() if layer.precision == "int4"]


def write(plan: Plan, directory: Path) -> None:
    """Write the plan beside a checkpoint. Equal plans give equal bytes."""
    (directory / FILE).write_bytes(canonical_json(plan.model_dump(mode="json", by_alias=True)))


def read(directory: Path) -> Plan | None:
    """Return a checkpoint's plan, or None if it has none. Raises ModelError if it is invalid."""
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        return Plan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        advice = ""
        if place == "schema":
            advice = "; run the recipe again with this version"
        raise ModelError(f"{path}: {place}: {first['msg']}{advice}") from error


def weight_scales(weight: NDArray[np.float32], isa: Isa) -> NDArray[np.float32]:
    """Return the scale of each column of a weight, inputs × outputs, for symmetric int8.

    Without VNNI, x86 adds the products of neighbouring inputs (0 and 1, 2 and 3, …) in 16 bits. For
    ``avx2``, a scale is therefore so large that no such sum can saturate, whatever the inputs are.
    In trained weights large ones are rarely neighbours, so this costs a third of a bit; weights of
    7 bits, which others use, cost a whole one.
    """
    import numpy as np

    scale = np.abs(weight).max(axis=0) / LARGEST
    if isa == "avx2":
        paired = len(weight) // 2 * 2
        for side in (np.maximum(weight, 0), np.maximum(-weight, 0)):
            sums = side[0:paired:2] + side[1:paired:2]
            scale = np.maximum(scale, sums.max(axis=0, initial=0) / PAIR)
    scales: NDArray[np.float32] = np.maximum(scale, 1e-12).astype(np.float32)
    return scales
