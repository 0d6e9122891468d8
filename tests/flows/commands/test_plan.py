"""``rarefy plan``: what would run, what it needs, and what is known about the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

from rarefy.pipeline.model.runtime import openvino
from tests.models import rename_weights, write_model
from tests.project import Project, Said


def test_plan_says_what_the_gate_will_need(project: Project, rarefy: Callable[..., Said]) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    assert rarefy("plan", recipe, "--baseline", "production").code == 2
    planned = rarefy("plan", recipe, "--baseline", "production", "--first")
    assert planned.code == 0
    assert "the tag 'production' does not exist yet" in planned.out


def test_a_first_release_that_may_be_a_mistyped_stage_is_warned_of(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    budgets = "budgets: {metric: accuracy, min_retained: 97 %, against: teacher}\n"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budgets)
    words = "warning: 'teacher' is neither a tag yet nor one of the stages model, head, judge, with"
    assert words in rarefy("plan", recipe, "--first").out
    ran = rarefy("run", recipe, "--first", "--engine", "inline")
    assert words in ran.err[: ran.err.index("head  ")], "before the first stage runs"


def test_a_latency_without_a_unit_is_noted(project: Project, rarefy: Callable[..., Said]) -> None:
    for budgets in ("{metric: latency_p50, max: 5}", "[{metric: latency_p50, max: 5}]"):
        recipe = project.recipe(
            "quickstages:Head", "quickstages:Judge", budgets=f"budgets: {budgets}\n"
        )
        planned = rarefy("plan", recipe)
        assert planned.code == 0
        assert "budget latency_p50: max 5 has no unit; it is read as '5 ms'" in planned.out


def test_a_target_s_provider_that_is_missing_here_is_warned_of(
    project: Project, rarefy: Callable[..., Said], monkeypatch
) -> None:
    """The plan may be for another machine; a run here is refused."""
    monkeypatch.setattr(openvino, "installed", lambda: False)
    targets = "targets: [{name: x, provider: openvino}]\n"
    recipe = project.recipe("quickstages:Head", "export", budgets=targets)
    planned, words = rarefy("plan", recipe), "provider 'openvino' is not active"
    assert planned.code == 0
    assert f"warning: {words}" in planned.out
    assert words in json.loads(rarefy("plan", recipe, "--json").out)["warnings"][0]
    ran = rarefy("run", recipe, "--engine", "inline")
    assert (ran.code, words in ran.err) == (5, True)


def test_labels_are_shown_as_they_are(project: Project, rarefy: Callable[..., Said]) -> None:
    for name in ("train.jsonl", "eval.jsonl"):
        path = project.folder / name
        text = path.read_text().replace('"negative"', '"[/b]"').replace('"positive"', '"[pos]"')
        path.write_text(text)
    planned = rarefy("plan", project.recipe("quickstages:Head"))
    assert planned.code == 0, planned.err
    assert "labels: [/b], [pos]" in planned.out


def test_what_an_import_left_out_and_made_anew_is_told_by_run_and_plan(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    encoder = project.folder / "encoder"
    shutil.rmtree(encoder)
    write_model(encoder, "bert", "AutoModelForPreTraining")
    rename_weights(
        encoder, lambda name: "" if "pooler" in name or name.startswith("cls.pred") else name
    )
    recipe = project.recipe("quickstages:Head")
    assert "model:" not in rarefy("plan", recipe).out
    notes = [
        "model: cls.seq_relationship left out, because BertModel does not use it",
        "model: no weights for pooler.dense; initialized at random, to be trained",
    ]
    ran = rarefy("run", recipe, "--engine", "inline")
    assert ran.code == 0
    planned = json.loads(rarefy("plan", recipe, "--json").out)
    assert planned["warnings"] == notes
    summary = (project.home / "runs" / "tiny" / "summary.md").read_text()
    for note in notes:
        assert f"note: {note}" in " ".join(ran.err.split())
        assert note in summary.replace("\\", "")


def test_a_head_for_other_labels_is_told_before_anything_runs(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    encoder = project.folder / "encoder"
    shutil.rmtree(encoder)
    write_model(encoder, "roberta", "AutoModelForSequenceClassification", ("spam", "ham"))
    planned = rarefy("plan", project.recipe("quickstages:Head"))
    assert planned.code == 0
    note = "note: model: its head is for other labels (only it has spam, ham; only the data have "
    assert note in " ".join(planned.out.split())
