"""The speed-up over the fastest form of the float model that was timed, in words.

A speed-up over fp32 in ONNX Runtime is not yet one over the best that a float model can do: where
the CPU has bf16, OpenVINO computes in it and is 1.3 to 1.8 times as fast, at the same accuracy.
"""

from __future__ import annotations

from pipeline.measure.measurements import CANDIDATE, FASTEST_FLOAT, Measurements
from pipeline.terms import wording


def over(measured: Measurements, target: str) -> str | None:
    """Return ``2.31× [2.2, 2.4] against the fastest float form …``; None if only one was timed.

    The forms are those of the first reference: fp32 in ONNX Runtime, and OpenVINO's default.
    """
    from pipeline.measure.statistics import percentile_of

    timed, first = measured.latency[target], next(iter(measured.references), "")
    if not all(any(timed.samples.get(name, [])) for name in (CANDIDATE, FASTEST_FLOAT, first)):
        return None
    model = measured.models.get(FASTEST_FLOAT)
    known = f" in {model.precision}" if model and model.precision else ""
    forms = {first: "ONNX Runtime in fp32", FASTEST_FLOAT: f"OpenVINO{known}"}
    fastest = min(forms, key=lambda name: percentile_of(timed.samples[name], 50))
    other = next(form for name, form in forms.items() if name != fastest)
    speedup = wording.bounds(timed.ratio(fastest, CANDIDATE), "×")
    return (
        f"{speedup} against the fastest float form of {first} that we know, {forms[fastest]} "
        f"(timed beside {other})"
    )


def lines(measured: Measurements | None) -> list[str]:
    """Return the sentence of each target that has one."""
    found = {target: over(measured, target) for target in measured.latency} if measured else {}
    return [f"speed on {target}: {said}" for target, said in found.items() if said]
