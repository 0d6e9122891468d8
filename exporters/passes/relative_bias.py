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
from exporters.passes.graph import added_to_scores, constant, integers, node, read_inputs, varies

MOST = 2**22
"""The most numbers to spread, 16 MB: 16 heads × 512 × 512. They stay in memory beside the model."""


def apply(model: ir.Model, longest: int = 512) -> int:
    """Replace the biases by distance that are added to scores. Returns the number of sums.

    ``longest``: the number of tokens in the longest row that the graph will be given.
    """
    sums = []
    for adding, at, value in added_to_scores(model):
        if varies(value) and not read_inputs(value):
            sums.append((adding, at, value))
    heads: dict[bytes, int] = {}  # the numbers of a head -> its place among those of all layers
    places: dict[ir.Value, list[int]] = {}
    for value in dict.fromkeys(value for *_, value in sums):
        table = _by_distance(model, value, longest)
        if table is not None:
            places[value] = [heads.setdefault(head.tobytes(), len(heads)) for head in table]
    if not places or len(heads) * longest**2 > MOST:
        return 0
    numbers = np.frombuffer(b"".join(heads), dtype=np.float32)
    tables = numbers.reshape(1, len(heads), -1)
    steps = _square(model, tables, longest)
    square = steps[-1].outputs[0]
    biases = dict[ir.Value, ir.Value]()
    for value, chosen in places.items():
        biases[value] = square
        if chosen != [*range(len(heads))]:
            name = f"distances.{len(biases)}"
            index = integers(model, name, chosen)
            picked = node("Gather", [square, index], like=square, axis=1)
            picked.outputs[0].shape = _shape(len(chosen))
            steps.append(picked)
            biases[value] = picked.outputs[0]
    model.graph.insert_before(model.graph[0], steps)
    count = 0
    for adding, at, value in sums:
        if value in biases:
            adding.replace_input_with(at, biases[value])
            count += 1
    return count


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
    before = whole[0, :, :0:-1, 0]
    after = whole[0, :, 0]
    table: NDArray[np.float32] = np.concatenate([before, after], axis=1)
    square = table[None, :, np.subtract(*_places(longest))]
    for rows, length in ((1, longest), (2, 1), (1, 2), (2, 9), (1, 64)):
        length = min(length, longest)
        bias = _computed(model, value, rows, length)
        expected = square[:, :, :length, :length]
        if not np.array_equal(bias, expected.repeat(len(bias), axis=0)):
            return None
    return table


def _computed(model: ir.Model, value: ir.Value, rows: int, length: int) -> NDArray[np.float32]:
    """Return a value for a batch without padding."""
    ones = np.ones((rows, length), dtype=np.int64)
    feed = {str(read.name): ones for read in model.graph.inputs}
    [[result]] = evaluate(model, [value], [feed])
    return result


def _places(longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a row for keys and a column for queries; their difference is the place in a table."""
    last = longest - 1
    keys = np.arange(last, last + longest, dtype=np.int64)
    queries = np.arange(longest, dtype=np.int64)
    return keys[None, :], queries[:, None]


def _square(model: ir.Model, tables: NDArray[np.float32], longest: int) -> list[ir.Node]:
    """Return nodes; the last makes 1 × heads × tokens × tokens, cut out of the spread tables."""
    held = constant(model, "distances", tables)
    key_places, query_places = _places(longest)
    keys = constant(model, "distances.keys", key_places)
    queries = constant(model, "distances.queries", query_places)
    start = constant(model, "distances.start", np.zeros(2, dtype=np.int64))
    axes = integers(model, "distances.axes", [2, 3])
    places = node("Sub", [keys, queries], like=keys)
    whole = node("Gather", [held, places], like=held, axis=2)
    tokens = node("Shape", [model.graph.inputs[0]], like=keys, start=1, end=2)
    ends = node("Concat", [tokens, tokens], like=keys, axis=0)
    cut = node("Slice", [whole, start, ends, axes], like=held)
    cut.outputs[0].shape = _shape(tables.shape[1])
    return [places, whole, tokens, ends, cut]


def _shape(heads: int) -> ir.Shape:
    return ir.Shape([1, heads, "sequence", "sequence"])
