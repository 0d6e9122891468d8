"""A speed-up is also said against the fastest form of the float model that was timed."""

from __future__ import annotations

import pytest

from pipeline.measure.measurements import FASTEST_FLOAT, Measurements
from pipeline.report import floats, headline, html, markdown
from tests.pipeline.report.factory import measurements, report_data


def with_openvino(pace: float, precision: str) -> Measurements:
    """The factory's run, with the teacher in OpenVINO at ``pace`` times its ms in ONNX Runtime."""
    found = measurements().model_copy(deep=True)
    teacher = found.models["teacher"]
    found.models[FASTEST_FLOAT] = teacher.model_copy(update={"precision": precision})
    for timed in found.latency.values():
        own = [[pace * call for call in calls] for calls in timed.samples["teacher"]]
        timed.samples[FASTEST_FLOAT] = own
    return found


def test_openvino_is_named_with_its_precision_if_it_is_faster() -> None:
    found = with_openvino(0.5, "bf16")
    said = floats.over(found, "cpu")
    assert said is not None
    assert said.endswith(
        "of teacher that we know, OpenVINO in bf16 (timed beside ONNX Runtime in fp32)"
    )
    plain = found.latency["cpu"].ratio("teacher", "candidate").value
    assert float(said.partition("×")[0]) == pytest.approx(plain / 2, rel=0.01)


def test_onnx_runtime_is_named_if_it_is_faster() -> None:
    said = floats.over(with_openvino(1.5, "fp32"), "cpu")
    assert said is not None
    assert "that we know, ONNX Runtime in fp32 (timed beside OpenVINO in fp32)" in said


def test_every_target_has_a_line_and_the_pages_have_the_first() -> None:
    data = report_data(measurements=with_openvino(0.5, "bf16"))
    assert data.measurements is not None
    lines = floats.lines(data.measurements)
    assert [line.split(":")[0] for line in lines] == ["speed on cpu", "speed on cpu-all"]
    said = floats.over(data.measurements, "cpu")
    assert said in headline.build(data).numbers[0].detail
    assert "OpenVINO in bf16" in markdown.render(data)
    assert html.render(data).count("the fastest float form of teacher") == 3


def test_nothing_is_said_if_openvino_was_not_timed() -> None:
    assert floats.over(measurements(), "cpu") is None
    assert floats.lines(measurements()) == floats.lines(None) == []
    assert "fastest float" not in html.render(report_data())
