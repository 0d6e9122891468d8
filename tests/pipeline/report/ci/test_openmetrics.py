"""OpenMetrics, read by Prometheus's own parsers of both formats and by GitLab's rules."""

from __future__ import annotations

import math
import shlex

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.report.ci import openmetrics
from pipeline.report.ci.numbers import Measured
from pipeline.terms import metrics
from tests.pipeline.report.ci.budgets import HOSTILE, budgets, samples, ten


def test_prometheus_reads_every_number_in_base_units(numbers: list[Measured]) -> None:
    data = ten()
    text = openmetrics.render(data, numbers)
    families = samples(text)

    def value(name: str, **labels: str) -> float:
        return families[name, frozenset({"recipe": "movie-reviews", **labels}.items())]

    assert value("rarefy_verdict", rarefy_verdict="fail") == 1
    assert value("rarefy_verdict", rarefy_verdict="pass") == 0
    assert value("rarefy_size_bytes", model="candidate") == 15_400_000
    assert value("rarefy_stage_score_low_ratio", stage="prune", metric="accuracy") == 0.806
    pooled = sorted(t for p in data.measurements.latency["cpu"].samples["candidate"] for t in p)
    median = (pooled[len(pooled) // 2 - 1] + pooled[len(pooled) // 2]) / 2
    p50, low, high = (
        value(f"rarefy_latency_p50{side}_seconds", model="candidate", target="cpu")
        for side in ("", "_low", "_high")
    )
    assert p50 == pytest.approx(median / 1000, rel=1e-5)
    assert low < p50 < high
    drop = {"budget": "accuracy max_drop against production", "level": "error"}
    assert value("rarefy_budget_value_low", **drop) == -0.002
    assert value("rarefy_budget", **drop, rarefy_budget="pass") == 1
    assert text.endswith("\n# EOF\n")


def test_the_older_text_format_says_the_same(numbers: list[Measured]) -> None:
    """Its parser in Go, which the textfile collector and the Pushgateway use, drops a file with
    another type. The one in Python lets such types pass.
    """
    text = openmetrics.render(ten(), numbers)
    types = {line.split()[-1] for line in text.splitlines() if line.startswith("# TYPE")}
    assert types <= {"counter", "gauge", "histogram", "summary", "untyped"}
    families = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert families == samples(text)
    assert any(name == "rarefy_run_info" for name, _ in families)


@pytest.mark.parametrize("cores", [2, {"physical": 1, "logical": 2, "quota": None}])
def test_the_machine_has_its_cores_however_they_were_counted(cores: object) -> None:
    data = ten()
    data = data.model_copy(update={"machine": data.machine | {"cores": cores}})
    assert 'cores="2"' in openmetrics.render(data, [])


def test_what_is_no_number_is_left_out(numbers: list[Measured]) -> None:
    text = openmetrics.render(ten(), numbers)
    assert all(math.isfinite(value) for value in samples(text).values())
    assert 'rarefy_budget_value{recipe="movie-reviews",budget="memory max"' not in text
    assert 'rarefy_budget_value{recipe="movie-reviews",budget="ece max"' in text
    assert 'rarefy_budget_value_high{recipe="movie-reviews",budget="ece max"' not in text


def test_gitlab_reads_each_line_as_a_name_and_a_value(numbers: list[Measured]) -> None:
    """GitLab's parser cuts a line at any # and splits the rest like a shell."""
    hostile = budgets()[0].model_copy(update={"against": "s3://bucket/store#production"})
    odd = hostile.model_copy(update={"against": HOSTILE})
    text = openmetrics.render(ten(budgets=[hostile, odd]), numbers)
    samples(text)
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = shlex.split(line.split("#")[0])
            assert name.startswith("rarefy_")
            assert math.isfinite(float(value))


def test_times_of_budgets_are_in_seconds_and_a_gpu_s_runtime_is_named() -> None:
    data = ten()
    budget = next(b for b in data.verdict.budgets if metrics.unit(b.metric, b.form) == "ms")
    libraries = {"onnxruntime-gpu": "1.30"}
    text = openmetrics.render(
        data.model_copy(update={"machine": data.machine | {"libraries": libraries}}), []
    )
    limits = [v for (name, labels), v in samples(text).items() if name == "rarefy_budget_limit"]
    assert budget.limit / 1000 in limits
    assert budget.limit not in limits
    assert 'onnxruntime="1.30"' in text
