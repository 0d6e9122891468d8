"""Every kind of page, made of handmade numbers, and what a browser says of its layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rarefy.flows.console.compared import ComparisonView
from rarefy.pipeline.release.compare import judge
from rarefy.pipeline.report import html, trend
from rarefy.pipeline.store.artifact import Curve
from rarefy.pipeline.sweep import page as sweep
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict.history import History
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict
from tests.flows.console.test_compared import compared
from tests.pipeline.report.ci.budgets import budgets
from tests.pipeline.report.factory import report_data
from tests.pipeline.report.test_trend import fill
from tests.pipeline.sweep.test_page import record

WIDTHS: Final = (1280, 390)
SCHEMES: Final = ("light", "dark")
FIRST_SCREEN: Final = 700
"""Pixels from the top within which the name of the failed budget must end."""
LAYOUT: Final = """() => {
  const wider = e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0;
  const texts = list => list.map(e => e.textContent.trim().slice(0, 60));
  const cells = [...document.querySelectorAll("td, th, dd, h1, .verdict, .verdict p, .numbers p")];
  const frames = [...document.querySelectorAll(".scroll")];
  const outside = [...document.querySelectorAll("svg")].flatMap(svg => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(text => {
      const place = text.getBoundingClientRect();
      return place.width && (place.left < box.left - 1 || place.right > box.right + 1);
    });
  });
  const name = document.querySelector(".unmet b");
  return {
    cut: texts(cells.filter(wider)),
    outside: texts(outside),
    scrolled: frames.filter(wider).map(e => e.getAttribute("aria-label")),
    page: document.documentElement.scrollWidth - innerWidth,
    unmet: name && name.textContent,
    bottom: name && name.getBoundingClientRect().bottom,
  };
}"""
NAMES: Final = ("pass", "fail", "inconclusive", "bare", "compare", "sweep", "trend")
FAILED: Final = "Latency p50 on cpu-all"
"""The first of the failed report's budgets that are missed."""


@dataclass(frozen=True)
class Layout:
    """The layout of a page at a width.

    ``cut``      texts that are wider than their cell
    ``outside``  texts that leave their picture
    ``scrolled`` tables that are wider than their frame
    ``page``     by how many pixels the page is wider than the window
    ``unmet``    the first budget that the banner names, and the pixels down to its end
    """

    cut: list[str]
    outside: list[str]
    scrolled: list[str]
    page: int
    unmet: str | None
    bottom: float | None


def write(folder: Path) -> dict[str, Path]:
    """Write every page into a folder; return them by name."""
    history = History(folder / "history.sqlite")
    fill(history, 60, ["reviews", "toxicity"])
    comparison = compared()
    view = ComparisonView(comparison, judge(comparison, 0.002, Target()))
    texts = {
        "pass": html.render(_trained()),
        "fail": html.render(report_data(verdict=Verdict(outcome="fail", budgets=budgets()))),
        "inconclusive": html.render(_undecided()),
        "bare": html.render(report_data(verdict=None, measurements=None)),
        "compare": view.page(["load average 2.7 on 2 cores while measuring"]),
        "sweep": sweep.render(record()),
        "trend": trend.render(history, None),
    }
    paths = {}
    for name, text in texts.items():
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(text, encoding="utf-8")
    return paths


def look(page: Any, path: Path, width: int, scheme: str, picture: Path | None = None) -> Layout:
    """Open a page in the browser's ``page``; return its layout.

    Args:
        page: A page of Playwright.
        path: The file.
        width: The window's width in pixels.
        scheme: light or dark.
        picture: Where to save a picture of the whole page; None for nowhere.
    """
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(path.as_uri())
    if picture is not None:
        page.screenshot(path=str(picture), full_page=True)
    return Layout(**page.evaluate(LAYOUT))


def _trained() -> ReportData:
    data = report_data()
    losses = tuple(0.1 + 0.6 / (1 + part) for part in range(60))
    for node in data.lineage[:3]:
        node.curves["training"] = Curve(steps=690, losses=losses)
    return data


def _undecided() -> ReportData:
    """A run whose budgets are undecided on a machine that was busy."""
    data = report_data().model_copy(deep=True)
    measured = data.measurements
    assert measured is not None
    measured.latency["cpu"].busy.append("in 5 of 5 processes, times were not steady")
    budget = BudgetResult(
        metric="accuracy", form="max_drop", limit=0.01, against="teacher", value=0.008,
        low=-0.001, high=0.017, outcome="inconclusive",
        reason="accuracy differs from teacher's by \u22120.80 points [\u22121.70, +0.10] "
        "(one-sided 95% bounds); the non-inferiority margin is 1 point; inconclusive because the "
        "interval includes the limit",
    )  # fmt: skip
    verdict = Verdict(outcome="inconclusive", budgets=[budget])
    return data.model_copy(update={"verdict": verdict})
