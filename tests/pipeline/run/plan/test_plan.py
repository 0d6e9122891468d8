"""Plan a recipe against a store: what is cached, and what cannot work, before a run."""

from __future__ import annotations

import importlib
import os
import sys

import pytest

from rarefy.pipeline.data import development_split
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run import scoring
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.run.plan import plan as plans
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks import load as data
from rarefy.pipeline.terms import digests
from rarefy.pipeline.terms.errors import DataError, ModelError, ProviderError, RecipeError
from tests.conftest import execute
from tests.pipeline.run.chains import CHAIN


def test_a_plan_says_what_is_cached_and_runs_nothing(empty_workshop):
    assert [step.cached for step in empty_workshop.open(*CHAIN).plan.steps()] == [False] * 3
    empty_workshop.run(*CHAIN)
    changed = (CHAIN[0], {"quick:Word": {"word": "new"}, "as": "second"})
    planned = empty_workshop.open(*changed).plan.steps()
    assert [(step.id, step.cached) for step in planned] == [
        ("model", True),
        ("word", True),
        ("second", False),
    ]
    assert planned[1].kind is Kind.REPORT
    assert empty_workshop.ran() == ["one", "two"]


def test_a_stage_runs_again_if_a_new_eval_file_changes_the_unlabelled_rows_that_it_reads(workshop):
    free = [{"text": f"free text {at}"} for at in range(4)]
    workshop.write_rows("more.jsonl", free)
    held_out = (workshop.folder / "eval.jsonl").read_text()
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "unlabelled": "more.jsonl"}
    stages = ("quick:Head", {"distill": {"keep_layers": 1}})
    workshop.run(stages[0], data=data)

    def fingerprint(*texts):
        rows = "".join(f'{{"text": "{text}", "label": "positive"}}\n' for text in texts)
        (workshop.folder / "eval.jsonl").write_text(held_out + rows)
        return workshop.open(*stages, data=data).plan.steps()[-1].fingerprint

    before = fingerprint()
    assert before == fingerprint("another text") is not None
    assert len({before, fingerprint("free text 1"), fingerprint("free text 2")}) == 3


def test_a_stage_that_does_not_read_its_input_gets_none(workshop):
    finished = workshop.run(CHAIN[0], "quick:Alone", CHAIN[1])
    assert finished["alone"].artifact.path("word.txt").read_text() == "None []"
    other = workshop.run({"quick:Word": {"word": "other"}}, "quick:Alone", CHAIN[1])
    assert [step.cached for step in other.values()] == [True, False, True, False]


def test_a_step_with_a_seed_of_its_own_is_found_again_by_recipes_with_others(workshop):
    stages = ({"quick:Head": {}, "seed": 7}, {"quick:Count": {}, "from": "model"})
    first, second = (workshop.run(*stages, seed=seed) for seed in (0, 1))
    assert [step.cached for step in second.values()] == [True, True, False]
    same = workshop.run("quick:Head", seed=7)["head"]
    assert same.artifact.digest == first["head"].artifact.digest, "it is what that seed makes"


@pytest.mark.parametrize(
    ("stage", "changes"),
    [("label", False), ("profile", False), ({"label": {}, "seed": 1}, False), ("quantize", True)],
)
def test_only_what_draws_has_another_fingerprint_with_another_seed(workshop, stage, changes):
    head = {"quick:Head": {}, "seed": 0}
    workshop.run(head)
    plans = [workshop.open(head, stage, seed=seed).plan for seed in (0, 1)]
    first, second = (plan.steps()[-1].fingerprint for plan in plans)
    assert first is not None
    assert (first != second) is changes


def test_rows_that_are_cut_or_read_otherwise_have_another_fingerprint(workshop, monkeypatch):
    def prints() -> list[str]:
        plan = workshop.open("quick:Head").plan
        model = next(step.artifact for step in plan.steps() if step.id == "model")
        return [plan.fingerprint("head", {"model": model}), scoring._key(plan, model, "dev")]

    workshop.run("quick:Head")
    found = prints()
    for module, name in ((development_split, "VERSION"), (data, "READING")):
        monkeypatch.setattr(module, name, getattr(module, name) + 1)
        found += prints()
    assert len(set(found)) == 6


def test_a_plan_needs_nothing_that_only_linux_has(workshop, monkeypatch):
    loaded = workshop.open(*CHAIN).plan.loaded
    monkeypatch.delattr(os, "sched_getaffinity")
    plan = Plan(loaded, workshop.store)
    assert plan.threads == os.cpu_count()
    assert len(plan.steps()) == 3


TASK = """
from dataclasses import replace

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION, ClassScorer


class MyScorer(ClassScorer):
    scores = {"first": formulas.accuracy}


MINE = replace(TEXT_CLASSIFICATION, name="mine", scorer=MyScorer())
"""


def test_an_edit_of_a_plug_in_task_is_no_cache_hit(workshop, monkeypatch):
    plugin, metadata = workshop.folder / "plugin", workshop.folder / "plugin/mytask-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mytask\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[rarefy.tasks]\nmine = mytask:MINE\n")
    monkeypatch.syspath_prepend(plugin)

    def head(text: str):
        (plugin / "mytask.py").write_text(text)
        sys.modules.pop("mytask", None)  # as in a new process
        importlib.invalidate_caches()
        return workshop.run("quick:Head", task="mine")["head"]

    assert not head(TASK).cached
    assert head(TASK).cached
    again = head(TASK.replace('"first"', '"other"'))
    assert (again.cached, again.scores[0].name) == (False, "other")


DATA = ["finetune", "distill", "adapt", "quantize", "merge", "export", "validate"]


def everything(plan: Plan) -> tuple[dict[str, str], str]:
    """Return the fingerprint of each step, as if each had made the imported model, and a score."""
    model = plan.store.open(plan.store.digests()[0])
    known = dict.fromkeys(("model", *(step.id for step in plan.loaded.steps)), model)
    prints = {name: str(plan.fingerprint(name, known)) for name in known}
    return prints, scoring._key(plan, model, "eval")


SHAPES = {
    "tokenizers": ["model", *DATA],
    "pyarrow": DATA,
    "pandas": DATA,
    "numpy": ["distill", "adapt", "quantize", "merge", "export", "validate"],
    "onnx_ir": ["export", "validate"],
    "prefect": [],
}
"""The steps whose output a library shapes."""


def test_a_library_s_version_counts_where_it_shapes_the_output(workshop, monkeypatch):
    workshop.run("quick:Word")
    chain = (
        "finetune",
        {"distill": {"keep_layers": 1}},
        {"adapt": {}},
        "quantize",
        "merge",
        "export",
    )
    plan = workshop.open(*chain, "validate").plan
    before, score = everything(plan)
    there = digests.distribution_version
    for library, steps in SHAPES.items():
        other = {library: "0.0.1"}
        assert there(library) not in (None, "0.0.1")
        monkeypatch.setattr(
            digests, "distribution_version", lambda n, o=other: o.get(n) or there(n)
        )
        after, rescored = everything(plan)
        assert [name for name in before if before[name] != after[name]] == steps, library
        assert (rescored != score) is (library not in ("onnx_ir", "prefect")), library


def test_the_device_counts_for_what_is_computed_and_not_for_the_import(workshop):
    workshop.run("quick:Word")
    loaded = workshop.open("quick:Word", "finetune").plan.loaded
    plans = [Plan(loaded, workshop.store, device) for device in ("cpu", "cuda")]
    (before, score), (after, rescored) = map(everything, plans)
    assert [name for name in before if before[name] != after[name]] == ["word", "finetune"]
    assert rescored != score


BUDGET = {"metric": "size", "max": "20 MB"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"budgets": [BUDGET]}, RecipeError, r"trial\.yaml:\d+: stages: no 'validate' stage"),
        (
            {"task": "text-clasification"},
            RecipeError,
            r"trial\.yaml:\d+: task: unknown task.*did you mean 'text-classification'",
        ),
        ({"model": "gone"}, ModelError, "model: gone: there is no directory"),
        ({"data": {"train": "gone.jsonl", "eval": "eval.jsonl"}}, DataError, r"data\.train: gone"),
        (
            {"data": {"train": "train.jsonl", "eval": "eval.jsonl", "label": "stars"}},
            DataError,
            "no column 'stars'; the file has text, label",
        ),
    ],
)
def test_what_can_be_known_before_is_said_before(workshop, changes, error, message):
    run = workshop.open("quick:Head", **changes)
    with pytest.raises(error, match=message) as caught:
        run.plan.steps()
    assert caught.value.exit_code == 2
    assert workshop.ran() == []


def test_a_model_that_is_missing_is_named_by_the_parameter_that_asks_for_it(empty_workshop):
    with pytest.raises(RecipeError, match=r"distill\.student: gone: there is no directory"):
        empty_workshop.open("quick:Head", {"distill": {"student": "gone"}}).plan.steps()
    assert empty_workshop.store.digests() == []


def test_a_device_that_is_not_there(workshop, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = Run(Plan(recipes.load(workshop.recipe("quick:Word")), workshop.store, "cuda"))
    with pytest.raises(
        ProviderError, match="torch finds no CUDA device; use --device cpu"
    ) as caught:
        execute(run)
    assert caught.value.exit_code == 5


def test_a_file_that_a_stage_names_is_hashed_before_and_after_it_runs(workshop, monkeypatch):
    """It may hold gigabytes of texts. Once more each time, it is hashed for the plan."""
    (workshop.folder / "notes.txt").write_text("a")
    run = workshop.open("quick:Word", {"quick:Listen": {"to": "word", "file": "notes.txt"}})
    hashed, whole = [], plans.file_sha256
    monkeypatch.setattr(plans, "file_sha256", lambda path: hashed.append(path.name) or whole(path))
    execute(run)
    assert hashed == ["notes.txt"] * 3
    execute(run)  # from the cache
    assert hashed == ["notes.txt"] * 5


def test_libraries_that_a_custom_stage_lists_stay_as_they_are(workshop, monkeypatch):
    """Those that read the data count for a stage with rows, and not for the next plan."""
    run = workshop.open("quick:Count")
    kind = type(run.plan.stage_of("count"))
    monkeypatch.setattr(kind, "libraries", ["torch"])
    run.plan.steps()
    assert kind.libraries == ["torch"]
