"""The trend page: self-contained, bounded, harmless, honest, and good in a real browser."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import series, trend
from pipeline.report.figures.trend import Column, mark
from pipeline.report.figures.trend import trend as chart
from pipeline.report.trend import Release
from pipeline.verdict.history import History
from pipeline.verdict.readings import Key, Machine, Past, Reading
from tests.pipeline.report.factory import digest
from tests.pipeline.report.test_html import ARGUMENTS, HOSTILE
from tests.pipeline.report.verdicts import NEWER, START, asked, finished

LATENCY = Key("latency_p50", "cpu")


def past(machine: str = "a", **changes: Any) -> Past:
    fields: dict[str, Any] = {
        "id": 1, "time": "2025-03-03T09:30:00+00:00", "recipe": "r", "command": "", "bundle": None,
        "outcome": "pass", "evidence": [], "commit": None, "machine": Machine(machine, {}),
        "again": False,
    }  # fmt: skip
    return Past(**fields | changes)


def reading(value: float | None, **changes: Any) -> Reading:
    low, high = (None, None) if value is None else (value * 0.98, value * 1.02)
    return Reading(value, low, high, **changes)


def columns(*values: float | None, machines: str | None = None) -> list[Column]:
    letters = machines or "A" * len(values)
    return [
        Column(past(letter), letter, reading(value))
        for value, letter in zip(values, letters, strict=True)
    ]


def strokes(figure: str, colour: str) -> list[str]:
    """The connected strokes of the figure's paths of one colour."""
    paths = re.findall(rf'<path d="([^"]*)" fill="none" stroke="var\(--{colour}\)"', figure)
    return [stroke for path in paths for stroke in re.findall(r"M[^M]*", path)]


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
    """Repeat what the history holds, as if all had happened so many times."""
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


def test_numbers_of_one_machine_are_joined_and_of_two_are_not() -> None:
    one = chart(LATENCY, columns(1.0, 1.1, 1.2), "x")
    assert [stroke.count("L") for stroke in strokes(one, "accent")] == [2]
    two = chart(LATENCY, columns(1.0, 1.1, 1.2, 1.3, machines="AABB"), "x")
    assert [stroke.count("L") for stroke in strokes(two, "accent")] == [1, 1]
    assert "from here on machine B" in two


def test_a_size_is_the_same_number_on_every_machine() -> None:
    figure = chart(Key("size"), columns(1e6, 2e6, machines="AB"), "x")
    assert [stroke.count("L") for stroke in strokes(figure, "accent")] == [1]


def test_a_missing_number_breaks_the_line_and_says_so() -> None:
    found = columns(1.0, None, 1.2)
    found[1] = Column(past(), "A", reading(None, outcome="fail", reasons=("it answered NaN",)))
    figure = chart(LATENCY, found, "x")
    assert [stroke.count("L") for stroke in strokes(figure, "accent")] == [0, 0]
    assert "no number · fail · it answered NaN" in figure


def test_outcomes_differ_in_shape_and_not_only_in_colour() -> None:
    shapes = {
        re.sub(r'(fill|stroke)="[^"]*"', "", mark(0, 0, outcome))
        for outcome in ("pass", "fail", "inconclusive")
    }
    assert len(shapes) == 3
    assert mark(0, 0, None) != mark(0, 0, "pass")


def test_a_budget_that_moved_is_drawn_as_a_step_and_a_far_one_is_said() -> None:
    limits = (1.3, 1.3, 1.2)
    found = [
        Column(past(), "A", reading(1.25, outcome="pass", limits={"max": limit}))
        for limit in limits
    ]
    (line,) = strokes(chart(LATENCY, found, "x"), "limit")
    assert len(set(re.findall(r"[ V](\d+\.\d)", line))) == 2
    far = [Column(past(), "A", reading(1.25, outcome="pass", limits={"max": 90.0}))]
    figure = chart(LATENCY, far, "x")
    assert strokes(figure, "limit") == []
    assert "at most 90.0\u00a0ms ↑" in figure


@pytest.mark.parametrize(
    ("key", "values", "machines", "said"),
    [
        (LATENCY, (1.0, 1.1), "AA", "↑ 10.0\u00a0%"),
        (LATENCY, (1.1, 1.0), "AA", "↓ 9.1\u00a0%"),
        (LATENCY, (1.0, 1.01), "AA", None),
        (LATENCY, (1.0, 1.1), "AB", None),
        (LATENCY, (1.0,), "A", None),
        (Key("accuracy"), (0.80, 0.86), "AA", "↑ 6.00\u00a0points"),
    ],
)
def test_a_change_is_named_only_where_it_can_be(
    key: Key, values: tuple[float, ...], machines: str, said: str | None
) -> None:
    followed = [(c.past, c.reading) for c in columns(*values, machines=machines) if c.reading]
    found = series.change(key, followed)
    assert (found.text if found else None) == said
    if found:
        assert found.better is (("↓" in found.text) == (key is LATENCY))


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
    assert "libraries onnxruntime: 1.31.0 → 1.32.0" in page
    assert page.count("promoted to production</span>") == 1
    assert "in all 3 pass, 1 inconclusive, 1 fail" in " ".join(page.split())
    assert "The measurement carries no verdict: the CPU was throttled" in page


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="the playwright package is missing")
    with api.sync_playwright() as driver:
        instance = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield instance
        instance.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_whole(
    browser: Any, history: History, tmp_path: Path, scheme: str, width: int
) -> None:
    fill(history, 60, ["reviews", "toxicity"])
    path = tmp_path / "trend.html"
    path.write_text(trend.render(history, None), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    page.goto(path.as_uri())
    assert page.locator(".verdict").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # every word of a chart lies inside its picture
    outside = page.evaluate(
        """() => [...document.querySelectorAll('.charts svg')].flatMap(svg => {
          const box = svg.getBoundingClientRect();
          return [...svg.querySelectorAll('text')].filter(text => {
            const own = text.getBoundingClientRect();
            return own.left < box.left - 1 || own.right > box.right + 1;
          }).map(text => text.textContent);
        })"""
    )
    assert outside == []
    assert said == []
    assert [url for url in asked_for if not url.startswith("data:")] == [path.as_uri()]
    page.close()
