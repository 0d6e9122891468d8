"""The trend page: self-contained, bounded, safe, honest, and correct in a real browser."""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest

from rarefy.pipeline.report import trend
from rarefy.pipeline.report.trend import Release
from rarefy.pipeline.verdict.history import History
from tests.pipeline.report.factory import digest
from tests.pipeline.report.test_html import HOSTILE
from tests.pipeline.report.verdicts import NEWER, START, asked, finished


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.sqlite")


def fill(history: History, verdicts: int, recipes: list[str]) -> None:
    for index in range(verdicts):
        value = 1.1 + 0.05 * (index % 7)
        budgets = [
            asked("latency_p50", "max", 1.3, value, 0.04, target="cpu"),
            asked("latency_p50", "min_speedup", 5, 7 / value, 0.2, target="cpu", against="teacher"),
            asked("accuracy", "min_retained", 0.97, 0.98, 0.005, against="teacher"),
            asked("latency_p99", "max", 9, None if index % 5 == 0 else 8, 0.2, target="cpu"),
            asked("memory", "max", 60e6, 48e6, level="warn"),
        ]
        data = finished(
            index, right=80 + index % 9, budgets=budgets, name=recipes[index % len(recipes)],
            machine=NEWER if index % 50 > 30 else NEWER | {"cpu": "Some other CPU @ 3 GHz"},
        )  # fmt: skip
        history.add(data, "ab12cd34" * 5)


def grow(history: History, times: int) -> None:
    """Repeat the entries of the history, as if everything had happened several times."""
    with sqlite3.connect(history.path) as database:
        (count,) = database.execute("SELECT max(id) FROM verdicts").fetchone()
        for shift in range(count, count * times, count):
            for table, own in (("verdicts", "id"), ("numbers", "verdict")):
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
                rest = ", ".join(f'"{name}"' for name in columns if name != own)
                database.execute(
                    f"INSERT INTO {table} ({own}, {rest}) SELECT {own} + {shift}, {rest} "
                    f"FROM {table} WHERE {own} <= {count}"
                )


def test_the_page_tells_outcomes_machines_and_releases(history: History) -> None:
    for index in range(3):
        history.add(finished(index, machine=NEWER if index else finished(0).machine))
    failed = asked("accuracy", "min", 0.99, 0.86, reason="accuracy is 86 %; 99 % was asked")
    history.add(finished(3, budgets=[failed]))
    history.add(finished(4, evidence=["the CPU was throttled"]))
    promoted = (START + timedelta(hours=13)).isoformat()
    page = unescape(
        trend.render(history, None, [Release("production", digest("bundle 1"), promoted)])
    )
    assert "accuracy is 86 %; 99 % was asked" in page
    assert "libraries.onnxruntime: 1.31.0 → 1.32.0" in page
    assert page.count("promoted to production</span>") == 1
    assert "in total 3 pass, 1 inconclusive, 1 fail" in " ".join(page.split())
    assert "The measurement does not support a verdict: the CPU was throttled" in page


def test_a_thousand_verdicts_stay_under_a_megabyte(history: History, tmp_path: Path) -> None:
    fill(history, 100, ["reviews"])
    grow(history, 10)
    assert sum(history.count().values()) == 1000
    assert len(trend.render(history, None).encode()) < 1_000_000
    many = History(tmp_path / "many.sqlite")
    fill(many, 100, [f"recipe-{index}" for index in range(20)])
    grow(many, 10)
    page = trend.render(many, None)
    assert len(page.encode()) < 1_000_000
    assert "12 more recipes" in page


def test_hostile_text_is_shown_and_never_run(history: History) -> None:
    bad = asked("accuracy", "max_drop", 0.01, 0.5, against=HOSTILE, reason=HOSTILE)
    worse = asked(HOSTILE, HOSTILE, 0.01, 0.5, target=HOSTILE)
    data = finished(
        0, name=HOSTILE, command=HOSTILE, budgets=[bad, worse], evidence=[HOSTILE],
        machine={"cpu": HOSTILE, HOSTILE: HOSTILE, "libraries": {"onnxruntime": HOSTILE}},
    )  # fmt: skip
    data.measurements.models["candidate"].digest = HOSTILE
    history.add(data, HOSTILE)
    page = trend.render(history, None, [Release(HOSTILE, HOSTILE, "9")])
    assert "<script" not in page
    assert "<img" not in page
    assert HOSTILE in unescape(page)


def test_nothing_is_asked_of_a_network(history: History) -> None:
    fill(history, 8, ["one", "two"])
    page = trend.render(history, None)
    addresses = re.findall(r"""(?:src|srcset|href|action)\s*=\s*["']?([^"'\s>]*)""", page)
    assert addresses
    assert [address for address in addresses if not address.startswith(("#", "data:,"))] == []
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_names_that_screen_readers_need_are_unique(history: History) -> None:
    fill(history, 8, ["one", "two"])
    page = trend.render(history, None)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for labels in re.findall(r'aria-labelledby="([^"]*)"', page):
        assert set(labels.split()) <= set(ids)
