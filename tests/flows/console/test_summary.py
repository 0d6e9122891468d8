"""What a run ends with: the original and the compressed model side by side, and what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.flows.console import summary
from rarefy.flows.console.options import as_text
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict
from tests.pipeline.report.factory import measurements, report_data


def lines(data: ReportData) -> dict[str, str]:
    """Return each row of the table without its name, by its name; the head's is empty."""
    table = summary.gains_table(data)
    assert table is not None
    found = {}
    for line in as_text(table).splitlines():
        name = line[:13].strip()
        found[name] = " ".join(line[13:].split())
    return found


def on_one_target(**changes: object) -> ReportData:
    measured = measurements()
    latency = {"cpu": measured.latency["cpu"]}
    return report_data(measurements=measured.model_copy(update={"latency": latency, **changes}))


def test_accuracy_latency_and_size_stand_before_and_after():
    """The factory's teacher is correct on 83.2% of the rows, and its bundle has 91.6 MB."""
    shown = lines(on_one_target())
    assert shown[""] == "original compressed change"
    assert shown["accuracy"].startswith("83.2% 82.4% 99.0% retained [")
    ratio = 91_600_000 / 15_400_000
    assert shown["size"] == f"91.6 MB 15.4 MB {ratio:.2f}× smaller"
    before, _, after, _, times, word, low, high = shown["latency p50"].split()
    assert word == "faster"
    assert float(times[:-1]) == pytest.approx(float(before) / float(after), rel=0.01)
    assert float(low[1:-1]) < float(times[:-1]) < float(high[:-1])
    assert list(shown) == ["", "accuracy", "latency p50", "size"]


def test_each_target_has_its_latency():
    table = summary.gains_table(report_data())
    assert table is not None
    names = list(table.columns[0].cells)
    assert names == ["accuracy", "p50 on cpu", "p50 on cpu-all", "size"]


def test_without_budgets_the_table_is_the_same():
    """Its numbers are measured, whether or not a budget asks for them."""
    data = on_one_target()
    unjudged = data.model_copy(update={"verdict": None})
    assert lines(unjudged) == lines(data)


def test_the_original_is_a_checkpoint_and_not_the_release_of_before():
    measured = measurements()
    models = {"production": measured.models["student"], **measured.models}
    data = on_one_target(models=models, baselines={"production": "0" * 64})
    budgets = [
        BudgetResult(metric="accuracy", form="max_drop", limit=0.01, against="production",
                     outcome="pass", reason="it is"),
    ]  # fmt: skip
    data = data.model_copy(update={"verdict": Verdict(outcome="pass", budgets=budgets)})
    assert summary.original(data) == "teacher"
    assert summary.legend(data).startswith("original: teacher in fp32 on ONNX Runtime")


def test_a_model_that_became_slower_and_larger_is_said_to_be():
    measured = measurements()
    models = dict(measured.models)
    models["teacher"], models["candidate"] = models["candidate"], models["teacher"]
    samples = dict(measured.latency["cpu"].samples)
    samples["teacher"], samples["candidate"] = samples["candidate"], samples["teacher"]
    latency = {"cpu": measured.latency["cpu"].model_copy(update={"samples": samples})}
    shown = lines(on_one_target(models=models, latency=latency))
    assert "× slower [" in shown["latency p50"]
    assert shown["size"].endswith("× larger")


def test_without_an_original_the_values_have_their_intervals():
    measured = measurements()
    shown = lines(on_one_target(models={"candidate": measured.models["candidate"]}))
    assert shown[""] == "compressed change"
    assert shown["accuracy"].startswith("82.4% [")
    assert shown["latency p50"].endswith("]")
    assert shown["size"] == "15.4 MB"


def test_nothing_measured_has_no_table():
    assert summary.gains_table(report_data(measurements=None)) is None
    assert summary.legend(report_data(measurements=None)) == ""


@pytest.mark.parametrize("data", [report_data(), on_one_target()])
def test_the_table_fits_a_terminal(data: ReportData):
    table = summary.gains_table(data)
    assert table is not None
    assert max(map(len, as_text(table).splitlines())) <= 80
    assert len(summary.legend(data)) <= 80


def undecided(metric: str, **changes: object) -> list[str]:
    budget = BudgetResult(
        metric=metric, form="max", limit=1, outcome="inconclusive", reason="the interval is wide"
    )
    measured = measurements()
    timed = measured.latency["cpu"].model_copy(update=changes)
    measured = measured.model_copy(update={"latency": {"cpu": timed}})
    return summary.advice(Verdict(outcome="inconclusive", budgets=[budget]), measured)


def test_what_is_inconclusive_says_why_and_what_would_decide_it():
    (busy,) = undecided("latency_p50", busy=["in 6 of 6 processes, times were not steady"])
    assert busy == (
        "inconclusive: the machine was busy (in 6 of 6 processes, times were not steady); "
        "use a quieter machine, or validate: {seconds: 300}"
    )
    (hot,) = undecided("cold_start", throttled="it became slower", busy=["a load"])
    assert "(it became slower)" in hot
    (few,) = undecided("latency_p99")
    assert few == "inconclusive: too few calls were timed; set validate: {seconds: 300}"
    (rows,) = undecided("accuracy")
    assert rows == "inconclusive: 2,500 eval rows cannot decide this margin; use more eval rows"


@pytest.mark.parametrize(
    ("metric", "against"),
    [
        ("accuracy", "teacher"),
        ("accuracy", "s3://models/store#production"),
        ("size", "teacher"),
        ("latency_p50", "teacher"),
        ("agreement", None),
    ],
)
def test_a_teacher_that_guesses_is_to_be_trained_whatever_was_measured(
    metric: str, against: str | None
):
    learned = measurements()
    teacher = learned.models["teacher"]
    guesses = teacher.model_copy(update={"answers": [[0.4, 0.6]] * len(teacher.answers)})
    name = against or "teacher"
    measured = learned.model_copy(update={"models": learned.models | {name: guesses}})
    budget = BudgetResult(
        metric=metric,
        form="min_retained",
        limit=1,
        against=against,
        outcome="inconclusive",
        reason=f"{name} is no better than a trivial baseline",
    )
    (line,) = summary.advice(Verdict(outcome="inconclusive", budgets=[budget]), measured)
    assert line == (
        f"inconclusive: {name} is no better than a trivial baseline; train it further, or use "
        "more eval rows"
    )


def test_what_is_decided_needs_no_advice():
    decided = Verdict(outcome="pass", budgets=[])
    assert summary.advice(decided, measurements()) == []
    assert summary.advice(None, measurements()) == []


@pytest.mark.parametrize(
    ("folder", "pairs", "command"),
    [
        (".rarefy/runs/demo", False, 'rarefy predict demo "…"'),
        (".rarefy/runs/demo", True, 'rarefy predict demo --pair "…" "…"'),
        ("out", False, 'rarefy predict out/bundle "…"'),
        ("my out", False, "rarefy predict 'my out/bundle' \"…\""),
    ],
)
def test_the_next_command_answers_with_the_bundle(
    monkeypatch: pytest.MonkeyPatch, folder: str, pairs: bool, command: str
):
    monkeypatch.delenv("RAREFY_HOME", raising=False)
    bundle = Path(folder) / "bundle"
    assert summary.next_command(bundle, Home.of(None), pairs=pairs) == command


def test_the_next_command_names_another_home(monkeypatch: pytest.MonkeyPatch):
    home = Home.of("elsewhere")
    bundle = home.runs / "demo" / "bundle"
    monkeypatch.delenv("RAREFY_HOME", raising=False)
    said = summary.next_command(bundle, home, pairs=False)
    assert said == 'rarefy predict demo --home elsewhere "…"'
    monkeypatch.setenv("RAREFY_HOME", "elsewhere")
    assert summary.next_command(bundle, home, pairs=False) == 'rarefy predict demo "…"'
