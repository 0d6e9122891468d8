"""What CI systems read, each by its own or a stock parser, over budgets in every state."""

from __future__ import annotations

import json
import math
import shlex
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pipeline.report import markdown
from pipeline.report.ci import annotations, bencher, benchmark_action, junit, openmetrics
from pipeline.report.ci.numbers import Measured, measured
from pipeline.terms.budget import Budget
from pipeline.verdict.record import ReportData
from pipeline.verdict.verdict import BudgetResult, Verdict
from tests.pipeline.report.factory import measurements, report_data

BUDGETS = [
    # metric, form, limit, against, target, level, outcome, value, bounds
    ("accuracy", "max_drop", 0.01, "production", None, "error", "pass", 0.001, (-0.002, 0.004)),
    ("accuracy", "max_drop", 0.002, "production", None, "error", "inconclusive", 0.001, (0, 0.004)),
    ("latency_p50", "min_speedup", 5, "teacher", "cpu", "error", "pass", 6.1, (5.9, 6.3)),
    ("latency_p50", "min_speedup", 9, "teacher", "cpu-all", "error", "fail", 6.1, (5.9, 6.3)),
    ("latency_p99", "max", 1.6, None, "cpu-all", "error", "inconclusive", None, None),
    ("latency_p95", "max", 1.6, None, "cpu", "warn", "inconclusive", 1.58, (1.52, 1.66)),
    ("size", "max", 1e6, None, None, "warn", "fail", 15.4e6, (15.4e6, 15.4e6)),
    ("memory", "max", 1e9, None, None, "error", "fail", None, None),
    ("macro_f1", "min", 0.5, None, None, "error", "fail", math.nan, (math.nan, math.nan)),
    ("ece", "max", 0.5, None, None, "error", "pass", 0.1, (0.05, math.inf)),
]
COLUMNS = ("metric", "form", "limit", "against", "target", "level", "outcome", "value")
HOSTILE = 'a <b> & "c" \\ #1 |\r\n]]> \x00\x1b[31m \ud800 %0A ::error::x'


def budgets() -> list[BudgetResult]:
    found = []
    for *row, bounds in BUDGETS:
        values: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
        low, high = bounds or (None, None)
        reason = f"{values['metric']} {values['form']}: a reason"
        found.append(BudgetResult(**values, low=low, high=high, reason=reason))
    return found


def ten(**changes: Any) -> ReportData:
    fields = {"outcome": "fail", "budgets": budgets()} | changes
    return report_data(verdict=Verdict(**fields))


@pytest.fixture(scope="module")
def numbers() -> list[Measured]:
    """What was measured in the factory's run; its bootstrap is done once."""
    return measured(report_data())


def kinds(text: str) -> dict[str, set[type]]:
    suite = next(iter(JUnitXml.fromstring(text.encode())))
    return {case.name: {type(found) for found in case.result} for case in suite}


def counts(text: str) -> tuple[int, int, int, int]:
    suite = next(iter(JUnitXml.fromstring(text.encode())))
    said = (suite.tests, suite.failures, suite.errors, suite.skipped)
    suite.update_statistics()
    assert said == (suite.tests, suite.failures, suite.errors, suite.skipped)
    return said


# JUnit


def test_ten_budgets_are_ten_test_cases() -> None:
    """Four miss an error-level budget or cannot be had, two are undecided, two only warn."""
    strict, lenient = (junit.render(ten(), strict) for strict in (True, False))
    assert counts(strict) == (10, 5, 0, 0)
    assert counts(lenient) == (10, 3, 0, 2)
    found, loose = kinds(strict), kinds(lenient)
    assert len(found) == 10
    for name in ("accuracy max_drop against production #2", "latency_p99 max on cpu-all"):
        assert (found[name], loose[name]) == ({Failure}, {Skipped})
    for name in ("size max (warn)", "latency_p95 max on cpu (warn)"):
        assert (found[name], loose[name]) == (set(), set())
    for name in ("memory max", "latency_p50 min_speedup against teacher on cpu-all"):
        assert (found[name], loose[name]) == ({Failure}, {Failure})


def test_a_failure_and_an_undecided_budget_are_told_apart_and_give_their_reason() -> None:
    suite = next(iter(JUnitXml.fromstring(junit.render(ten(), strict=True).encode())))
    by_name = {case.name: case for case in suite}
    undecided = by_name["latency_p99 max on cpu-all"].result[0]
    assert (undecided.type, undecided.message) == ("inconclusive", "latency_p99 max: a reason")
    assert by_name["memory max"].result[0].type == "fail"
    assert by_name["size max (warn)"].system_out == "warning (fail): size max: a reason"
    properties = {one.name: one.value for one in suite.properties()}
    assert properties["machine.libraries.onnxruntime"] == "1.32.0"


def test_a_case_keeps_its_name_when_its_limit_changes() -> None:
    """CI systems keep the history of a test under its name."""
    before = junit.render(ten(), strict=True)
    stricter = [budget.model_copy(update={"limit": budget.limit / 2}) for budget in budgets()]
    assert list(kinds(junit.render(ten(budgets=stricter), strict=True))) == list(kinds(before))


def test_missing_evidence_is_an_error_however_lenient() -> None:
    data = ten(outcome="pass", budgets=budgets()[:1], evidence=["throttled half way", "other CPU"])
    for strict in (True, False):
        text = junit.render(data, strict)
        assert counts(text) == (3, 0, 2, 0)
        assert kinds(text)["evidence 1"] == {Error}
        assert "throttled half way" in text


def test_a_run_without_a_verdict_is_no_empty_suite() -> None:
    """Jenkins takes a report without tests for an error of its own."""
    assert counts(junit.render(report_data(verdict=None), strict=True)) == (1, 0, 0, 1)
    assert counts(junit.broken("demo", "the weights are made of cheese")) == (1, 0, 1, 0)


def test_hostile_text_does_not_break_the_xml() -> None:
    budget = budgets()[7].model_copy(update={"reason": HOSTILE, "against": HOSTILE})
    text = junit.render(ten(budgets=[budget]), strict=True)
    suite = next(iter(JUnitXml.fromstring(text.encode())))
    message = next(iter(suite)).result[0].message
    assert message.startswith('a <b> & "c" \\ #1 |')
    assert "\x00" not in message
    assert "\x1b" not in message


# OpenMetrics


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read with Prometheus's own parser, which refuses what is not OpenMetrics."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_every_number_in_base_units(numbers: list[Measured]) -> None:
    data = ten()
    text = openmetrics.render(data, numbers)
    found = samples(text)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset({"recipe": "movie-reviews", **labels}.items())]

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


def test_what_is_no_number_is_left_out(numbers: list[Measured]) -> None:
    text = openmetrics.render(ten(), numbers)
    assert all(math.isfinite(value) for value in samples(text).values())
    assert 'rarefy_budget_value{recipe="movie-reviews",budget="memory max"' not in text
    assert 'rarefy_budget_value{recipe="movie-reviews",budget="ece max"' in text
    assert 'rarefy_budget_value_high{recipe="movie-reviews",budget="ece max"' not in text


def test_gitlab_reads_each_line_as_a_name_and_a_value(numbers: list[Measured]) -> None:
    """Its parser cuts a line at any # and splits the rest as a shell does."""
    hostile = budgets()[0].model_copy(update={"against": "s3://bucket/store#production"})
    odd = hostile.model_copy(update={"against": HOSTILE})
    text = openmetrics.render(ten(budgets=[hostile, odd]), numbers)
    samples(text)
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = shlex.split(line.split("#")[0])
            assert name.startswith("rarefy_")
            assert math.isfinite(float(value))


def test_a_candidate_that_answers_nan_breaks_no_format() -> None:
    broken = measurements().model_copy(deep=True)
    broken.models["candidate"].probabilities[0] = [math.nan, math.nan]
    broken.latency["cpu"].samples["candidate"][0][0] = math.nan
    data = report_data(measurements=broken)
    numbers = measured(data)
    timed = {n.target for n in numbers if n.model == "candidate" and n.metric == "latency_p50"}
    assert timed == {"cpu-all"}
    assert samples(openmetrics.render(data, numbers))
    for text in (bencher.render(data, numbers), benchmark_action.render(data, numbers, False)):
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


# Bencher and github-action-benchmark

BENCHER = {
    # The schema that bencher.dev publishes with the format, and no more: a name for everything.
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "lower_value": {"type": "number"},
                "upper_value": {"type": "number"},
            },
            "required": ["value"],
        },
    },
}
BENCHMARK_ACTION = {
    # From the action's documentation of its custom tools; an empty list it calls an error.
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "unit": {"type": "string", "minLength": 1},
            "value": {"type": "number"},
            "range": {"type": "string", "pattern": r"^± \d+(\.\d+)?(e-\d+)?$"},
            "extra": {"type": "string"},
        },
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
    },
}


def test_bencher_gets_measures_with_bounds(numbers: list[Measured]) -> None:
    found = json.loads(bencher.render(report_data(), numbers))
    jsonschema.validate(found, BENCHER)
    assert set(found) == {"movie-reviews", "movie-reviews on cpu", "movie-reviews on cpu-all"}
    p50 = found["movie-reviews on cpu"]["latency-p50-ms"]
    assert 0 < p50["lower_value"] < p50["value"] < p50["upper_value"]
    assert found["movie-reviews"]["size-bytes"] == {"value": 15_400_000}
    assert "latency-p99-ms" not in found["movie-reviews on cpu-all"], "100 calls carry no p99"


def test_the_action_gets_what_should_shrink_and_what_should_grow_apart(
    numbers: list[Measured],
) -> None:
    smaller, bigger = (
        json.loads(benchmark_action.render(report_data(), numbers, side)) for side in (False, True)
    )
    for entries in (smaller, bigger):
        jsonschema.validate(entries, BENCHMARK_ACTION)
    metrics = [{entry["name"].split(" ")[1] for entry in entries} for entries in (smaller, bigger)]
    assert metrics[0] >= {"size", "memory", "parameters", "latency_p50"}
    assert metrics[1] == {"accuracy", "macro_f1", "agreement", "speedup"}
    accuracy = next(entry for entry in bigger if "accuracy" in entry["name"])
    assert (accuracy["value"], accuracy["unit"]) == (82.4, "%")


def test_without_a_validate_stage_the_ledger_fills_the_charts() -> None:
    data = report_data(verdict=None, measurements=None)
    numbers = measured(data)
    for bigger in (False, True):
        jsonschema.validate(
            json.loads(benchmark_action.render(data, numbers, bigger)), BENCHMARK_ACTION
        )
    assert samples(openmetrics.render(data, numbers))


# GitHub's annotations


def parsed(command: str) -> tuple[str, dict[str, str], str]:
    """Read a workflow command as the runner does."""
    head, _, message = command.removeprefix("::").partition("::")
    level, _, rest = head.partition(" ")
    properties = dict(pair.split("=", 1) for pair in rest.split(","))

    def plain(text: str) -> str:
        for code, sign in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            text = text.replace(code, sign)
        return text

    return level, {k: plain(v) for k, v in properties.items()}, plain(message)


def test_each_budget_that_is_not_kept_is_shown_at_its_line() -> None:
    lines = [
        (Budget.model_validate({"metric": "memory", "max": "1 GB"}), 12),
        (Budget.model_validate({"metric": "latency_p99", "max": "1.6 ms"}), 14),
    ]
    found = [parsed(c) for c in annotations.render(ten(), True, "models/a.yaml", lines)]
    assert [level for level, *_ in found] == ["error"] * 5 + ["warning", "notice"]
    at = {properties["title"].split(": ")[1]: properties.get("line") for _, properties, _ in found}
    assert (at["memory max"], at["latency_p99 max on cpu-all"]) == ("12", "14")
    assert at["macro_f1 min"] is None
    assert {properties["file"] for _, properties, _ in found} == {"models/a.yaml"}
    lenient = [parsed(c)[0] for c in annotations.render(ten(), False, "models/a.yaml", lines)]
    assert lenient == ["error"] * 3 + ["warning"] * 3 + ["notice"]


def test_an_annotation_is_one_line_and_says_what_was_said() -> None:
    text = "50 % of a, b: c\nand d"
    command = annotations.command("error", text, "a,b:c.yaml", 3, text)
    assert "\n" not in command
    assert parsed(command) == ("error", {"file": "a,b:c.yaml", "line": "3", "title": text}, text)
    hostile = annotations.command("error", HOSTILE, HOSTILE, None, HOSTILE)
    assert len(hostile.splitlines()) == 1
    hostile.encode()


# The summary


def test_the_summary_renders_as_tables_with_all_cells() -> None:
    """Rendered by GitHub's rules for tables; a stray pipe would push cells over."""
    hostile = budgets()[7].model_copy(update={"reason": HOSTILE})
    data = ten(budgets=[*budgets(), hostile])
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown.render(data))
    rows: list[list[str]] = []
    for token, following in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            rows[-1].append(following.content)
    judged = rows[1:12]
    assert {len(row) for row in rows[:12]} == {7}
    assert [row[1].replace("\\", "") for row in judged] == [b.metric for b in data.verdict.budgets]
    assert sum("fail" in row[0] for row in judged) == 5
    assert {len(row) for row in rows[12:]} == {8}


def test_the_summary_says_why_a_measurement_carries_no_verdict() -> None:
    data = ten(outcome="inconclusive", evidence=["cpu: throttled half way"])
    assert "> ✗ No verdict: cpu: throttled half way\n" in markdown.render(data)
