"""The HTML report: self-contained, bounded, safe, complete, and correct in a real browser."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from rarefy.pipeline.measure.measurements import ModelMeasurement
from rarefy.pipeline.report import guide, html
from rarefy.pipeline.store.artifact import Curve
from rarefy.pipeline.verdict.record import LineageNode
from rarefy.pipeline.verdict.verdict import Verdict
from tests.pipeline.report.ci.budgets import budgets
from tests.pipeline.report.factory import digest, loses_a_slice, measurements, report_data

HOSTILE = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>"


def test_every_budget_is_listed_with_its_reason() -> None:
    data = report_data()
    page = unescape(html.render(data))
    for budget in data.verdict.budgets:
        assert budget.reason in page


def test_a_percentile_that_the_sample_cannot_carry_is_withheld_and_said() -> None:
    few = report_data(measurements=measurements(calls=40))
    assert "needs 368 calls" in html.render(few)


def test_cold_starts_are_told_where_there_are_enough_and_a_gpus_time_where_there_is_one() -> None:
    measured = measurements(calls=20, rows=50).model_copy(deep=True)
    page = html.render(report_data(measurements=measured))
    assert "Cold start" not in page
    assert "Device time" not in page
    measured.models["candidate"].cold_start = [290.0, 301.0, 295.0, 288.0, 310.0, 293.0]
    measured.models["teacher"].cold_start = [400.0] * 5
    first = next(iter(measured.latency.values()))
    first.device = {"candidate": [[7.25] * 20]}
    page = html.render(report_data(measurements=measured))
    assert "page cache, median: candidate 294 ms [288, 310].</p>" in page
    assert page.count("Device time p50") == 1
    assert '<td class="n">7.25</td>' in page


def test_a_median_with_cold_caches_has_a_column_where_it_was_timed() -> None:
    measured = measurements(calls=20, rows=50).model_copy(deep=True)
    assert "Cold caches p50" not in html.render(report_data(measurements=measured))
    next(iter(measured.latency.values())).cold = {"candidate": [[8.75] * 16] * 5}
    page = html.render(report_data(measurements=measured))
    assert page.count("Cold caches p50") == 1
    assert page.count('<td class="n">8.75</td>') == 1


def test_it_stays_under_a_megabyte_however_much_was_measured() -> None:
    huge = measurements(calls=2000, rows=2000, samples=1000)
    huge.samples = [row | {"text": "word " * 2000} for row in huge.samples]
    huge.labels = [f"label {i} " + "x" * 200 for i in range(1000)]
    huge.slices = {f"s{i}": [f"{row % 20} " + "x" * 200 for row in range(2000)] for i in range(9)}
    node = LineageNode(
        id="n", stage="s", version=1, digest=digest("n"), kind="checkpoint",
        parameters={f"p{i}": "x" * 100 for i in range(500)},
        metrics=[{"name": f"m{i}", "value": 1.0} for i in range(500)],
    )  # fmt: skip
    data = report_data(
        measurements=huge, recipe="# long\n" * 50_000, lineage=[node] * 100,
        warnings=["w" * 5000] * 500, labels=[f"label {i}" for i in range(1000)],
        ledger=report_data().ledger * 5,
    )  # fmt: skip
    assert len(html.render(data).encode()) < 1_000_000


def test_hostile_text_is_shown_and_never_run() -> None:
    measured = measurements(calls=20, rows=50)
    measured.samples = [{"text": HOSTILE, HOSTILE: "x"}]
    rows = report_data().ledger
    rows[0] = rows[0].model_copy(update={"id": HOSTILE})
    page = html.render(
        report_data(
            name=HOSTILE, recipe=HOSTILE, command=HOSTILE, warnings=[HOSTILE],
            measurements=measured, ledger=rows, machine={"cpu": HOSTILE, HOSTILE: 1},
        )
    )  # fmt: skip
    assert "<script" not in page
    assert "<img" not in page
    assert HOSTILE in unescape(page)


def test_a_slice_that_loses_is_first_and_said_in_words() -> None:
    page = unescape(html.render(report_data(measurements=loses_a_slice())))
    table = page[page.index('id="slices"') : page.index('id="classes"')]
    assert "significantly worse than teacher on <strong>" in table
    first, second = (table.index(part) for part in ("31–64 tokens", "18–30 tokens"))
    assert first < second
    assert "significantly worse (p < 0.001)" in table[first:second]
    assert "no significant difference (p = " in table[second:]


def test_classes_calibration_and_examples_of_each_kind_are_shown() -> None:
    page = unescape(html.render(report_data()))
    classes = page[page.index('id="classes"') : page.index('id="calibration"')]
    assert all(f'<th scope="row">{label}</th>' in classes for label in ("negative", "positive"))
    calibration = page[page.index('id="calibration"') :]
    assert "in bins of at least 10 rows" in calibration
    for title in (
        "Regressions: only teacher is correct",
        "Improvements: only the candidate is correct",
    ):
        assert page.count(f"<h3>{title}</h3>") == 1
    assert "<h3>Confidently wrong" in page


def test_a_candidate_that_answers_nan_is_in_no_figure() -> None:
    """Its correlation is NaN, which is no place in a drawing and no share that is retained."""
    data = report_data()
    scores = [[row / 50] for row in range(50)]
    answers = {"candidate": [[float("nan")], *scores[1:]], "teacher": scores}
    models = {
        name: ModelMeasurement(digest=name, size=9, answers=rows) for name, rows in answers.items()
    }
    changes = {"task": "regression", "labels": [], "truth": [row[0] for row in scores]}
    changes |= {"models": models, "slices": {}, "samples": []}
    measured = data.measurements.model_copy(update=changes)
    page = html.render(data.model_copy(update={"measurements": measured}))
    assert "of spearman correlation retained" not in page
    assert not re.search(r"\bnan\b", page)
    drawn = page[page.index('id="target0-tradeoff-wide-desc"') :].split("</desc>")[0]
    assert "teacher: " in drawn
    assert "candidate: " not in drawn


def test_nothing_is_asked_of_a_network() -> None:
    page = html.render(report_data())
    addresses = re.findall(r"""(?:src|srcset|href|action)\s*=\s*["']?([^"'\s>]*)""", page)
    assert addresses
    site = guide.site() or "#"  # a link, which is opened only by a click
    assert [at for at in addresses if not at.startswith(("#", "data:,", site))] == []
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": None, "measurements": None}, "Not validated"),
        ({"verdict": None}, "Measured, not judged"),
        ({"ledger": [], "lineage": [], "verdict": None, "measurements": None}, "No stage"),
    ],
)
def test_an_incomplete_run_still_makes_sense(changes: dict[str, Any], said: str) -> None:
    assert said in html.render(report_data(**changes))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(browser: Any, tmp_path: Any, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(html.render(report_data()), encoding="utf-8")
    page = browser.new_page(color_scheme=scheme)
    page.goto(path.as_uri())
    names = ["surface", "raised", "ink", "muted", "accent", "limit", "pass", "fail", "inconclusive"]
    values = page.evaluate(
        "n => n.map(k => getComputedStyle(document.documentElement).getPropertyValue('--' + k))",
        names,
    )
    page.close()
    colours = dict(zip(names, values, strict=True))
    for ground in ("surface", "raised"):
        for name in names[2:]:
            assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two #rrggbb colours."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_entities_are_counted_by_their_type() -> None:
    found = measurements()
    truth = [{"tags": [1, 2, 0]} for _ in range(40)]
    truth[0] |= {"names": ["O", "B-City", "I-City"]}
    answers = {"candidate": [[0, 1, 0], [0, 0, 1], [1, 0, 0]] * 40}
    answers["teacher"] = answers["candidate"]
    models = {
        name: ModelMeasurement(digest=name, size=9, answers=rows) for name, rows in answers.items()
    }
    changes = {"task": "token-classification", "labels": ["O", "B-City", "I-City"]}
    changes |= {"truth": truth, "models": models, "latency": {}, "slices": {}, "samples": []}
    page = html.render(report_data(measurements=found.model_copy(update=changes), verdict=None))
    table = page.partition('<section id="classes">')[2].partition("</table>")[0]
    assert '<th>Entity type</th><th class="n">Entities</th>' in table
    assert '<th scope="row">City</th>' in table
    assert '<td class="n">40</td>' in table
    assert "all 40 eval sentences" in page


def test_a_page_has_its_style_and_escapes_the_rest(tmp_path: Path) -> None:
    (tmp_path / "report.css").write_text("p > em { color: red }")
    (tmp_path / "p.j2").write_text(
        '<style>{{ css }}</style>{{ name }} {{ 2 | plural("row") }} {{ name | loud }} '
        '{{ "<svg/>" | svg }}'
    )
    text = html.render_page("p.j2", {"loud": str.upper}, tmp_path, name="a<b")
    assert text == "<style>p > em { color: red }</style>a&lt;b 2 rows A&lt;B <svg/>"


def test_a_value_that_a_page_does_not_get_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "report.css").touch()
    (tmp_path / "p.j2").write_text("{{ missing }}")
    with pytest.raises(UndefinedError, match="missing"):
        html.render_page("p.j2", {}, tmp_path)


def test_the_lines_to_use_the_bundle_are_on_the_page() -> None:
    page = unescape(html.render(report_data()))
    section = page[page.index('id="use"') : page.index('id="lineage"')]
    assert 'rarefy.Bundle("bundle")' in section
    assert 'python bundle/predict.py "A text."' in section
    assert "rarefy promote movie-reviews production" in section
    failed = report_data(verdict=Verdict(outcome="fail", budgets=budgets()))
    assert "rarefy promote" not in html.render(failed)
    assert 'id="use"' not in html.render(report_data(ledger=report_data().ledger[:2]))


def test_the_losses_of_a_training_are_drawn() -> None:
    data = report_data()
    assert 'id="training"' not in html.render(data)
    data.lineage[0].curves["training"] = Curve(steps=120, losses=(0.7, 0.3, 0.21))
    page = html.render(data)
    assert page.count('id="losses0-wide-title"') == 1
    assert "120 steps, 0.210 at the end" in page
