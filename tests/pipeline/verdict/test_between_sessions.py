"""What the history says of how much sessions differ, and what it makes of a verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.verdict import between_sessions
from rarefy.pipeline.verdict.between_sessions import Timed
from rarefy.pipeline.verdict.history_numbers import Past
from rarefy.pipeline.verdict.judge import judge
from rarefy.pipeline.verdict.verdict import BudgetResult
from tests.pipeline.report.verdicts import asked
from tests.pipeline.verdict.measured import CPU
from tests.pipeline.verdict.test_history_numbers import past

P50 = Timed("latency_p50", "cpu", "warm")


def session(ratio: float, day: int = 1, **changes: object) -> Past:
    """Return a verdict on one bundle, ``ratio`` times as slow as what is in production."""
    result = asked(
        "latency_p50", "max_regression", 0.05, ratio - 1, target="cpu", against="production"
    )
    made = replace(past(result), bundle="b", measured=f"2026-01-{day:02}")
    return replace(made, **changes)  # type: ignore[arg-type]


def test_sessions_of_one_bundle_show_how_much_they_differ() -> None:
    pasts = [session(math.exp(log)) for log in (0.00, 0.02, 0.04, 0.02)]
    spread = between_sessions.spreads(pasts, "a")[P50]
    assert (spread.freedom, spread.sessions) == (3, 4)
    assert spread.deviation == pytest.approx(math.sqrt(0.0008 / 3))
    assert spread.reach == pytest.approx(3.1824 * spread.deviation, rel=1e-3)  # t(3), 97.5 %


def test_bundles_are_pooled_but_their_difference_is_none_of_sessions() -> None:
    pairs = [(1.00, "b"), (1.02, "b"), (1.5, "c"), (1.53, "c"), (2.0, "d"), (2.04, "d")]
    pasts = [session(ratio, bundle=bundle) for ratio, bundle in pairs]
    spread = between_sessions.spreads(pasts, "a")[P50]
    assert spread.freedom == 3
    assert spread.deviation == pytest.approx(math.log(1.02) / math.sqrt(2))


@pytest.mark.parametrize(
    "changes",
    [
        {"again": True},
        {"evidence": ["throttled"]},
        {"bundle": "other"},
        {"baselines": {"production": "other"}},
        {"measured": "2026-01-05"},
    ],
)
def test_what_is_no_session_of_the_same_pair_before_does_not_count(
    changes: dict[str, object],
) -> None:
    pasts = [session(1.0), session(1.01), session(1.02)]
    assert between_sessions.spreads([*pasts, session(1.03)], "a", "2026-01-05")
    other = session(1.03, **changes)
    assert not between_sessions.spreads([*pasts, other], "a", "2026-01-05")
    assert not between_sessions.spreads([*pasts, session(1.03)], "another machine")


def test_a_ratio_that_another_session_may_turn_is_inconclusive(measurements) -> None:  # type: ignore[no-untyped-def]
    budget = Budget(metric="speedup", min_speedup=3.9, against="finetune")
    pasts = []
    for factor in (4.0, 5.0, 6.0, 5.0):
        result = asked("speedup", "min_speedup", 4, factor, target="cpu", against="finetune")
        pasts.append(replace(past(result), bundle="c"))
    spreads = between_sessions.spreads(pasts, "a")
    alone = judge([budget], CPU, measurements).budgets[0]
    (result,) = judge([budget], CPU, measurements, spreads).budgets
    assert (alone.outcome, result.outcome) == ("pass", "inconclusive")
    assert "sessions on this machine differ by " in result.reason
    assert result.low is not None
    assert result.low < 3.9
    far = budget.model_copy(update={"min_speedup": 2.0})
    assert judge([far], CPU, measurements, spreads).budgets[0].outcome == "pass"


def test_a_history_that_is_broken_says_nothing(tmp_path: Path, measurements) -> None:  # type: ignore[no-untyped-def]
    broken = tmp_path / "history.sqlite"
    broken.write_text("no database")
    assert between_sessions.of_history(broken, measurements) == {}
    assert between_sessions.of_history(tmp_path / "none.sqlite", measurements) == {}


def test_a_loss_of_throughput_is_a_ratio_of_times_too() -> None:
    """With 8 % fewer rows a second, a row takes 1 / 0.92 times as long."""

    def lost(share: float) -> BudgetResult:
        return asked("throughput", "max_regression", 0.1, share, target="cpu", against="production")

    pasts = [replace(past(lost(1 - 1 / ratio)), bundle="b") for ratio in (1.0, 1.02, 1.04, 1.02)]
    spreads = between_sessions.spreads(pasts, "a")
    spread = spreads[Timed("throughput", "cpu", "warm")]
    logs = np.log([1.0, 1.02, 1.04, 1.02])
    assert spread.deviation == pytest.approx(np.std(logs, ddof=1))
    result = between_sessions.check(lost(0.08), spreads)
    assert result.outcome == "inconclusive"
    assert result.low == pytest.approx(1 - 0.92 * math.exp(spread.reach))
    assert result.high == pytest.approx(1 - 0.92 * math.exp(-spread.reach))
    assert between_sessions.check(lost(-0.1), spreads) == lost(-0.1)
