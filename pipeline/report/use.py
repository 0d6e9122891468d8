"""How to use the compressed model of a run: lines to copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rarefy.pipeline.report import facts
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.verdict.record import ReportData

RUNTIMES: Final = {"openvino": "OpenVINO"}
"""What a provider needs instead of ONNX Runtime."""


@dataclass(frozen=True)
class Use:
    """The lines; ``promote`` is None unless the verdict is a pass."""

    python: str
    program: str
    packages: str
    promote: str | None


def build(data: ReportData) -> Use | None:
    """Return the lines; None if the run made no bundle."""
    row = facts.candidate_row(data)
    if row is None or row.kind != Kind.BUNDLE:
        return None
    measured = data.measurements
    arguments = '["A text."]'
    command = 'python bundle/predict.py "A text."'
    if measured is not None and any("pair" in sample for sample in measured.samples):
        arguments = '["A text."], ["A second text."]'
        request = '{"texts": ["A text."], "pairs": ["A second text."]}'
        command = f"echo '{request}' | python bundle/predict.py"
    python = [
        "import rarefy",
        'model = rarefy.Bundle("bundle")',
        f"print(model.predict({arguments}))",
    ]
    runtime = "ONNX Runtime"
    timings = []
    if measured is not None:
        timings = list(measured.latency.values())
    for timed in timings:
        runtime = RUNTIMES.get(timed.provider, runtime)
    promote = None
    if data.verdict is not None and data.verdict.outcome == "pass":
        promote = f"rarefy promote {data.name} production"
    packages = f"{runtime}, tokenizers and numpy"
    return Use("\n".join(python), command, packages, promote)
