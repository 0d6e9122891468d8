"""Keep what attention adds by distance as a table, and not as the steps that compute it.

MPNet adds a number to each score, by head and by how far the key is from the query. transformers
computes it at every call: distances, their buckets (comparisons, a logarithm), a lookup, an
exchange of axes and a copy for each row of the batch.

The file has one number for each head and distance. Two nodes spread them to heads × longest ×
longest; they read constants only, so runtimes compute them once, when they load the graph. A call
cuts the square of its own length out of the result. Layers that kept other heads of one table, as
after pruning, take theirs from the square.

How the graph computes a bias does not matter: each value that depends on the length only, and is
added to scores, is computed for several lengths, and replaced if the table gives the same numbers
in all of them. A row that is longer than ``longest`` makes the runtime fail.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exporters.passes.evaluate import evaluate
from exporters.passes.graph import constant, feeds_softmax, node, read_inputs, varies

MOST = 2**22
"""The most numbers to spread, 16 MB: 16 heads × 512 × 512. They stay in memory beside the model."""


def apply(model: ir.Model, longest: int = 512) -> int:
    """Replace the biases by distance that are added to scores. Returns the number of sums.

    ``longest``: the number of tokens in the longest row that the graph will be given.
    """
    sums = [
        (adding, at, value)
        for adding in model.graph
        if adding.op_type == "Add" and feeds_softmax(adding)
        for at, value in enumerate(adding.inputs)
        if value is not None and varies(value) and not read_inputs(value)
    ]
    heads: dict[bytes, int] = {}  # the numbers of a head -> its place among those of all layers
    places: dict[ir.Value, list[int]] = {}
    for value in dict.fromkeys(value for *_, value in sums):
        table = _by_distance(model, value, longest)
        if table is not None:
            places[value] = [heads.setdefault(head.tobytes(), len(heads)) for head in table]
    if not places or len(heads) * longest**2 > MOST:
        return 0
    tables = np.frombuffer(b"".join(heads), dtype=np.float32).reshape(1, len(heads), -1)
    steps = _square(model, tables, longest)
    square, biases = steps[-1].outputs[0], dict[ir.Value, ir.Value]()
    for value, wanted in places.items():
        biases[value] = square
        if wanted != [*range(len(heads))]:
            index = constant(model, f"distances.{len(biases)}", np.array(wanted, dtype=np.int64))
            steps.append(node("Gather", [square, index], like=square, axis=1))
            steps[-1].outputs[0].shape = _shape(len(wanted))
            biases[value] = steps[-1].outputs[0]
    model.graph.insert_before(model.graph[0], steps)
    found = [(adding, at, biases[value]) for adding, at, value in sums if value in biases]
    for adding, at, bias in found:
        adding.replace_input_with(at, bias)
    return len(found)


def _by_distance(model: ir.Model, value: ir.Value, longest: int) -> NDArray[np.float32] | None:
    """Return a bias as heads × distances, the farthest key before the query first.

    None if it is too large, or depends on anything else than heads and distances.
    """
    shape = value.shape
    if shape is None or len(shape) != 4 or value.dtype != ir.DataType.FLOAT:
        return None
    heads = shape[1]
    if not isinstance(heads, int) or heads * longest**2 > MOST:
        return None
    whole = _computed(model, value, 1, longest)
    if whole.shape != (1, heads, longest, longest):
        return None
    table: NDArray[np.float32] = np.concatenate([whole[0, :, :0:-1, 0], whole[0, :, 0]], axis=1)
    square = table[None, :, np.subtract(*_places(longest))]
    for rows, length in ((1, longest), (2, 1), (1, 2), (2, 9), (1, 64)):
        length = min(length, longest)
        found = _computed(model, value, rows, length)
        if not np.array_equal(found, square[:, :, :length, :length].repeat(len(found), axis=0)):
            return None
    return table


def _computed(model: ir.Model, value: ir.Value, rows: int, length: int) -> NDArray[np.float32]:
    """Return a value for a batch without padding."""
    ones = np.ones((rows, length), dtype=np.int64)
    feed = {str(each.name): ones for each in model.graph.inputs}
    [[found]] = evaluate(model, [value], [feed])
    return found


def _places(longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a row for keys and a column for queries; their difference is the place in a table."""
    keys = np.arange(longest - 1, 2 * longest - 1, dtype=np.int64)
    return keys[None, :], np.arange(longest, dtype=np.int64)[:, None]


def _square(model: ir.Model, tables: NDArray[np.float32], longest: int) -> list[ir.Node]:
    """Return nodes; the last makes 1 × heads × tokens × tokens, cut out of the spread tables."""
    held = constant(model, "distances", tables)
    keys, queries = (
        constant(model, f"distances.{name}", places)
        for name, places in zip(("keys", "queries"), _places(longest), strict=True)
    )
    start = constant(model, "distances.start", np.zeros(2, dtype=np.int64))
    axes = constant(model, "distances.axes", np.array([2, 3], dtype=np.int64))
    places = node("Sub", [keys, queries], like=keys)
    whole = node("Gather", [held, places.outputs[0]], like=held, axis=2)
    tokens = node("Shape", [model.graph.inputs[0]], like=keys, start=1, end=2)
    ends = node("Concat", [tokens.outputs[0], tokens.outputs[0]], like=keys, axis=0)
    cut = node("Slice", [whole.outputs[0], start, ends.outputs[0], axes], like=held)
    cut.outputs[0].shape = _shape(tables.shape[1])
    return [places, whole, tokens, ends, cut]


def _shape(heads: int) -> ir.Shape:
    return ir.Shape([1, heads, "sequence", "sequence"])
