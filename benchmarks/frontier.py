"""The picture of what students reach: accuracy against the time from text to logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rarefy.pipeline.report.facts import Point
from rarefy.pipeline.report.figures.tradeoff import tradeoff
from rarefy.pipeline.report.pictures import WIDE, stand_alone
from rarefy.pipeline.terms.interval import Interval

TEACHER = "teacher (12×768)"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the rows of one data set, and their teacher as it was timed beside the first of them.

    Students are drawn as much faster than that as each was than the teacher beside it: they may
    have been timed on other machines. Nothing is drawn of no rows.
    """
    if not rows:
        return
    first = rows[0]
    slow = first["ms_from_text"] * first["from_text"]["value"]
    points = [Point(TEACHER, Interval(slow, slow, slow), Interval(**first["teacher"]), False)]
    for row in rows:
        faster = Interval(**row["from_text"])
        took = Interval(*(slow / each for each in (faster.value, faster.high, faster.low)))
        name = row["student"] if row["seed"] == 0 else f"{row['student']} ({row['seed']})"
        points.append(Point(name, took, Interval(**row["accuracy"]), True))
    path.write_text(stand_alone(tradeoff(points, WIDE, "students"), "light"))
