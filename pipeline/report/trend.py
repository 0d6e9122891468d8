"""The history of verdicts as one HTML page that loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rarefy.pipeline.report import series, wording
from rarefy.pipeline.report.figures.trend import Column, trend
from rarefy.pipeline.report.html import render_page
from rarefy.pipeline.report.series import Change
from rarefy.pipeline.terms.outcomes import ORDER, SYMBOL, Outcome
from rarefy.pipeline.verdict.history import History
from rarefy.pipeline.verdict.history_numbers import Key, Machine, Past, changes, readings

MAX_RECIPES = 8
MAX_CHARTS = 12
MAX_DRAWN = 90
MAX_MARKS = 1200
"""Marks on one page: the more charts there are, the fewer verdicts each of them shows."""
MAX_ROWS = 80
"""Rows of all recipes' tables together; one recipe's table gets at most a quarter of them."""
MAX_MACHINES = 6
MAX_TEXT = 300


class Release(NamedTuple):
    """A bundle that a tag was moved to, and when (ISO 8601, UTC)."""

    tag: str
    digest: str
    time: str


@dataclass(frozen=True)
class ChartView:
    """One number over time, with its latest value."""

    title: str
    target: str | None
    value: str
    interval: str | None
    outcome: Outcome | None
    change: Change | None
    figure: str


@dataclass(frozen=True)
class Row:
    """One verdict of the table."""

    past: Past
    letter: str
    tags: tuple[str, ...]
    why: tuple[str, ...]


@dataclass(frozen=True)
class MachineLine:
    """A machine in the charts: its letter, its description, its changes from the previous one."""

    letter: str
    words: str
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """The contents of one recipe's section."""

    name: str
    count: int
    since: str
    latest: Past
    counts: dict[Outcome, int]
    drawn: int
    charts: list[ChartView]
    dropped: int
    machines: list[MachineLine]
    rows: list[Row]


def render(history: History, recipe: str | None, releases: Sequence[Release] = ()) -> str:
    """Return the page of one recipe or of all, the most recent first; it is always under 1 MB.

    There must be at least one verdict. Raises the errors of reading the history.
    """
    names = history.recipes() if recipe is None else [recipe]
    recent = {name: history.verdicts(name, MAX_DRAWN) for name in names[:MAX_RECIPES]}
    charts = 0
    for verdicts in recent.values():
        keys = _keys(verdicts)
        charts += min(len(keys), MAX_CHARTS)
    drawn = min(MAX_DRAWN, MAX_MARKS // max(charts, 1))
    listed = MAX_ROWS // max(len(recent), 4)
    stories = []
    for index, (name, verdicts) in enumerate(recent.items()):
        counts = history.count(name)
        shown = verdicts[-drawn:]
        story = _story(counts, shown, listed, releases, f"r{index}")
        stories.append(story)
    return render_page(
        "trend.html.j2",
        {"minute": wording.minute, "short": _shorten},
        stories=stories,
        total=sum(story.count for story in stories),
        more=names[MAX_RECIPES:],
    )


def _shorten(text: str) -> str:
    return wording.shorten(text, MAX_TEXT)


def _keys(verdicts: Iterable[Past]) -> list[Key]:
    """Return the numbers to chart: absolute values first, those of the latest verdict first."""
    keys: dict[Key, None] = {}
    for past in reversed(list(verdicts)):
        keys |= dict.fromkeys(readings(past))
    return sorted(keys, key=lambda key: key.form is not None)


def _story(
    counts: dict[Outcome, int],
    shown: list[Past],
    listed: int,
    releases: Sequence[Release],
    anchor: str,
) -> Story:
    """Return a recipe's section.

    Args:
        counts: How many verdicts of each outcome the history has.
        shown: The verdicts to draw, oldest first, at least one.
        listed: How many of them the table lists.
        releases: The moves of tags.
        anchor: A prefix of names that is unique in the page.
    """
    letters = _letters(shown)
    tags = _tags(shown, releases)
    keys = _keys(shown)
    charts = []
    for index, key in enumerate(keys[:MAX_CHARTS]):
        columns = [_column(past, key, letters, tags) for past in shown]
        charts.append(_chart(key, columns, f"{anchor}-{index}"))
    rows = []
    for past in reversed(shown[-listed:]):
        letter = letters[past.machine.digest]
        row = Row(past, letter, tags.get(past.id, ()), _reasons(past))
        rows.append(row)
    return Story(
        name=shown[-1].recipe,
        count=sum(counts.values()),
        since=shown[0].time[:10],
        latest=shown[-1],
        counts={name: counts[name] for name in ORDER if counts.get(name)},
        drawn=len(shown),
        charts=charts,
        dropped=len(keys) - len(charts),
        machines=_machines(shown, letters),
        rows=rows,
    )


def _column(
    past: Past, key: Key, letters: dict[str, str], tags: dict[int, tuple[str, ...]]
) -> Column:
    letter = letters[past.machine.digest]
    reading = readings(past).get(key)
    return Column(past, letter, reading, tags.get(past.id, ()))


def _chart(key: Key, columns: Sequence[Column], name: str) -> ChartView:
    numbers = [(column.past, column.reading) for column in columns if column.reading]
    latest = numbers[-1][1]
    value = "no value"
    if latest.value is not None:
        value = series.shown(key, latest.value)
    return ChartView(
        title=series.title(key),
        target=key.target,
        value=value,
        interval=series.interval(key, latest),
        outcome=latest.outcome,
        change=series.change(key, numbers),
        figure=trend(key, columns, name),
    )


def _letters(verdicts: Sequence[Past]) -> dict[str, str]:
    """Return digest -> letter: A, B, …, AA, … in the order in which the machines appear."""
    letters: dict[str, str] = {}
    for past in verdicts:
        if past.machine.digest not in letters:
            tens, ones = divmod(len(letters), 26)
            first = ""
            if tens:
                first = chr(64 + tens)
            letters[past.machine.digest] = first + chr(65 + ones)
    return letters


def _machines(verdicts: Sequence[Past], letters: dict[str, str]) -> list[MachineLine]:
    lines: dict[str, MachineLine] = {}
    before: Machine | None = None
    for past in verdicts:
        machine = past.machine
        if machine.digest not in lines:
            changed = []
            if before:
                changed = changes(before, machine)[:4]
            short = tuple(wording.shorten(change, 120) for change in changed)
            letter = letters[machine.digest]
            lines[machine.digest] = MachineLine(letter, _machine(machine), short)
        before = machine
    return list(lines.values())[-MAX_MACHINES:]


def _machine(machine: Machine) -> str:
    parts = [wording.shorten(machine.cpu, 80)]
    if machine.cores:
        parts.append(wording.plural(machine.cores, "core"))
    if machine.runtime:
        version = wording.shorten(machine.runtime, 30)
        parts.append(f"onnxruntime {version}")
    return ", ".join(parts)


def _tags(verdicts: Sequence[Past], releases: Sequence[Release]) -> dict[int, tuple[str, ...]]:
    """Return verdict -> the tags that were moved to its bundle because of it.

    A move is credited to the bundle's last verdict before it.
    """
    by_verdict: dict[int, dict[str, None]] = {}
    for release in releases:
        bundle = [past for past in verdicts if past.bundle == release.digest]
        before = [past.id for past in bundle if past.time <= release.time]
        if not before:
            continue
        tags = by_verdict.setdefault(before[-1], {})
        tags[release.tag] = None
    names = {}
    for verdict, tags in by_verdict.items():
        names[verdict] = tuple(tags)
    return names


def _reasons(past: Past) -> tuple[str, ...]:
    """Return the reasons why a verdict is not a pass, errors first."""
    missed = [budget for budget in past.budgets if budget.outcome != "pass"]
    missed.sort(key=lambda budget: budget.outcome != "fail")
    missed.sort(key=lambda budget: budget.level != "error")
    reasons = list(past.evidence)
    for budget in missed:
        symbol = SYMBOL[budget.outcome]
        reasons.append(f"{symbol} {budget.reason}")
    return tuple(map(_shorten, reasons[:3]))
