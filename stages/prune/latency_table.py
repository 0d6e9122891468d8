"""What heads and neurons cost on a machine: a table of times.

The model's layers are alike, so models of one and of two layers tell what a layer costs: their
difference is a layer in the middle, and the smaller one is all the rest, with a last layer of which
a bundle may compute less. Times between measured counts are interpolated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.terms.errors import ModelError

if TYPE_CHECKING:
    from rarefy.stages.surgery.units import Unit

FILE = "latencies.json"
SCHEMA = "rarefy.latencies/2"
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Curve:
    """Median ms of models with one layer and with two, by a count of units in each layer."""

    counts: tuple[int, ...]
    one: tuple[float, ...]
    two: tuple[float, ...]

    def ms(self, count: int, *, last: bool) -> float:
        """Return the ms of a layer with that many units, to compare with other counts only.

        ``last``: of the last layer, together with all that is in no layer.
        """
        times = np.array(self.one)
        if not last:
            times = np.array(self.two) - times
        return float(np.interp(count, self.counts, times))


@dataclass(frozen=True)
class Table:
    """A machine's times for a model.

    Attributes:
        machine: digest of the machine's fingerprint.
        threads: threads of the target.
        tokens: the median length of the rows that were timed.
        curves: times by the number of heads and of neurons.
        model: what its layers are like (see ``model_of``).
        precision: int8 or float.
    """

    machine: str
    threads: int
    tokens: int
    curves: Mapping[Unit, Curve]
    model: Mapping[str, Any]
    precision: str

    def ms(self, layers: Sequence[Mapping[Unit, int]]) -> float:
        """Return the ms of a model with these units in its layers."""
        first = next(iter(self.curves.values()))
        total = 0.0
        for place, counts in enumerate(layers):
            last = place == len(layers) - 1
            total += first.ms(first.counts[-1], last=last)
            for kind, curve in self.curves.items():
                if kind in counts:
                    whole = curve.ms(curve.counts[-1], last=last)
                    total += curve.ms(counts[kind], last=last) - whole
        return total

    def save(self, directory: Path) -> None:
        """Write the table as JSON."""
        curves = {kind: vars(curve) for kind, curve in self.curves.items()}
        value = {"schema": SCHEMA, **vars(self), "curves": curves}
        text = json.dumps(value, indent=2)
        file = directory / FILE
        file.write_text(text + "\n", encoding="utf-8")


def load(directory: Path) -> Table:
    """Read what ``save`` wrote. Raises ModelError if it is not there, or is older."""
    path = directory / FILE
    if not path.is_file():
        raise ModelError(f"prune.table: that stage wrote no {FILE}; 'profile' does")
    text = path.read_text(encoding="utf-8")
    value = json.loads(text)
    schema = value.pop("schema")
    if schema != SCHEMA:
        raise ModelError("prune.table: another version of rarefy made it; run 'profile' again")
    curves = {}
    for kind, curve in value.pop("curves").items():
        counts = tuple(curve["counts"])
        one = tuple(curve["one"])
        two = tuple(curve["two"])
        curves[kind] = Curve(counts, one, two)
    return Table(curves=curves, **value)


def model_of(network: Any) -> dict[str, Any]:
    """Return what decides, besides their heads and neurons, what a model's layers cost."""
    config = network.config
    return {
        "model_type": config.model_type,
        "hidden_size": config.hidden_size,
        "head_size": parts.head_size(network),
    }


def grid(most: int, multiple: int) -> tuple[int, ...]:
    """Return counts to measure, spread from the least to ``most``, in multiples of ``multiple``."""
    counts = {most}
    for share in SHARES[:-1]:
        nearest = round(share * most / multiple) * multiple
        counts.add(min(max(multiple, nearest), most))
    return tuple(sorted(counts))
