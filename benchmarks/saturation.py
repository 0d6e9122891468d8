"""Whether the integer products of an int8 bundle's own weights are exact on a CPU without VNNI.

    python -m benchmarks.saturation [--checkpoint DIR]     about 2 minutes; needs qemu-user, a CPU
                                                           with VNNI, and `make demo`

Each product of the default bundle, and of the one for VNNI, is computed alone on an emulated
Haswell from inputs that bring its sums as far as they go: all 255, 0 or 255 by chance, and 255
where a column's weights are positive. Logits are no measure of this: roundings that float kernels
tip over in an early layer are carried through all later ones (see ``benchmarks.portable``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import planned
from benchmarks.portable import EMULATED, check_emulator
from benchmarks.record import Claim, finish
from rarefy.exporters.build import build
from rarefy.pipeline.model.runtime.bundle_model import MODEL

FORMS = ("avx2", "vnni")
WORKER = """
import json, sys
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper

graph = onnx.load(sys.argv[1]).graph
held = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
random, checked, wrong, furthest = np.random.default_rng(0), 0, 0, 0
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
for node in graph.node:
    if node.op_type != "MatMulIntegerToFloat":
        continue
    weight = held[node.input[1]]
    inputs, outputs = weight.shape
    for zero in (0, 128):
        product = helper.make_node(
            "MatMulIntegerToFloat", ["a", "w", "s", "t", "z"], ["y"], domain="com.microsoft"
        )
        constants = {"w": weight, "s": np.float32(1), "t": np.ones(outputs, np.float32)}
        constants["z"] = np.uint8(zero)
        alone = helper.make_graph(
            [product], "g",
            [helper.make_tensor_value_info("a", TensorProto.UINT8, ["m", inputs])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", outputs])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        sets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        made = helper.make_model(alone, opset_imports=sets, ir_version=10)
        session = onnxruntime.InferenceSession(made.SerializeToString(), options)
        for rows in (1, 2, 5, 27):
            columns = weight[:, random.integers(0, outputs, rows)].T
            for given in (
                np.full((rows, inputs), 255),
                random.integers(0, 2, (rows, inputs)) * 255,
                np.where(columns > 0, 255, 0),
            ):
                sums = session.run(None, {"a": given.astype(np.uint8)})[0]
                exact = (given.astype(np.int64) - zero) @ weight.astype(np.int64)
                apart = np.abs(sums - exact)
                checked += apart.size
                wrong += int((apart > 1).sum())
                furthest = max(furthest, float(apart.max()))
print(json.dumps({"checked": checked, "wrong": wrong, "furthest": furthest}))
"""


def main() -> int:
    """Export, compute the products under emulation, and record how many sums are wrong."""
    source = planned.source(__doc__)
    check_emulator()
    task, split = planned.rows(source)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rarefy-saturation-") as name:
        int8 = planned.int8(source, Path(name) / "planned")
        for form in FORMS:
            folder = Path(name) / form
            folder.mkdir()
            build(int8, folder, task=task, split=split, form="deploy", isa=form)
            done = subprocess.run(
                [*EMULATED, sys.executable, "-c", WORKER, str(folder / MODEL)],
                capture_output=True,
                text=True,
                check=True,
            )
            rows.append({"form": form, **json.loads(done.stdout)})
            print(rows[-1], flush=True)
    plain, wide = rows
    return finish(
        "saturation",
        rows,
        [
            Claim(
                "without VNNI, all sums of the default int8 bundle's products are exact",
                "none wrong",
                f"{plain['wrong']:,} of {plain['checked']:,} wrong",
                plain["wrong"] == 0,
            ),
            Claim(
                "those of the bundle for VNNI are not, so the test can fail",
                "some wrong",
                f"{wide['wrong']:,} of {wide['checked']:,} wrong, by up to {wide['furthest']:,.0f}",
                wide["wrong"] > 0,
            ),
        ],
        seed=0,
    )


if __name__ == "__main__":
    raise SystemExit(main())
