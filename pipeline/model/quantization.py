"""The quantization plan: what precision each linear layer shall have, written beside a checkpoint.

``quantize`` writes it, ``merge`` keeps it, ``export`` carries it out. Modules are named as in the
base model, without what an adapter wraps around them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.terms.digests import canonical_json
from pipeline.terms.errors import ModelError

FILE = "quantization.json"


class LinearPlan(BaseModel):
    """One linear layer: its precision, the range of its input (static), the damage measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["int8", "float"]
    low: float | None = Field(None, description="least input, from calibration; None: at run time")
    high: float | None = None
    damage: float | None = Field(None, description="KL of the answers when it alone is int8, nats")


class Plan(BaseModel):
    """Precision of the whole model; ``linears`` by module path, for int8 only."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["rarefy.quantization/1"] = Field("rarefy.quantization/1", alias="schema")
    precision: Literal["int8", "fp16"] = "int8"
    mode: Literal["dynamic", "static"] = "dynamic"
    embeddings: Literal["int8", "float"] = "int8"
    linears: dict[str, LinearPlan] = Field(default_factory=dict)

    @property
    def integer_modules(self) -> list[str]:
        """The modules that become integer matrix products."""
        return [name for name, layer in self.linears.items() if layer.precision == "int8"]


def write(plan: Plan, directory: Path) -> None:
    """Write the plan beside a checkpoint; equal plans give equal bytes."""
    (directory / FILE).write_bytes(canonical_json(plan.model_dump(mode="json", by_alias=True)))


def read(directory: Path) -> Plan | None:
    """Return a checkpoint's plan, None where it has none. Raises ModelError for a broken one."""
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        return Plan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ModelError(f"{path}: {place}: {first['msg']}") from error
