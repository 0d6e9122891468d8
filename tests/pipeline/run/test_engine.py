"""The engine: one run per fingerprint, never a stale number, errors before work."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.run.plan.plan import MODEL, Plan
from rarefy.pipeline.store.artifact import list_files
from rarefy.pipeline.store.garbage import Collector
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError, RarefyError, RecipeError
from tests.conftest import Workshop, execute
from tests.pipeline.run.chains import CHAIN, flip
from tests.pipeline.store.artifacts import overwrite


def cached(finished) -> list[bool]:
    return [step.cached for step in finished.values()]


# The same work is done once


def test_the_second_run_is_all_cache_hits(empty_workshop):
    first, second = empty_workshop.run(*CHAIN), empty_workshop.run(*CHAIN)
    assert cached(first) == [False] * 3
    assert cached(second) == [True] * 3
    assert empty_workshop.ran() == ["one", "two"]
    for name, step in first.items():
        assert second[name].artifact.digest == step.artifact.digest
        assert second[name].seconds == pytest.approx(step.seconds, abs=0.5)


def test_what_does_not_last_is_published_and_made_again(workshop):
    """A disturbed measurement is reported, and the next run measures again."""
    stage = {"quick:Word": {"lasts": False}}
    first = workshop.run(stage)["word"]
    assert workshop.store.verify(first.artifact.digest) == []
    assert not workshop.run(stage)["word"].cached
    assert workshop.ran() == ["hello", "hello"]


def test_a_changed_parameter_runs_that_stage_and_the_later_ones(workshop):
    third = {"quick:Word": {"word": "three"}, "as": "third"}
    workshop.run(*CHAIN, third)
    middle = {"quick:Word": {"word": "other"}, "as": "second"}
    assert cached(workshop.run(CHAIN[0], middle, third)) == [True, True, False, False]
    assert workshop.ran() == ["one", "two", "three", "other", "three"]
    assert cached(workshop.run(*CHAIN, third)) == [True] * 4


def test_a_name_alone_changes_nothing(workshop):
    workshop.run(*CHAIN)
    renamed = ({**CHAIN[0], "as": "another"}, CHAIN[1])
    assert cached(workshop.run(*renamed)) == [True] * 3


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"data": {"train": "train.jsonl", "eval": "eval.jsonl", "max_length": 20}}],
)
def test_seed_and_reading_run_the_stages_again_but_not_the_import(workshop, changes):
    workshop.run(*CHAIN)
    assert cached(workshop.run(*CHAIN, **changes)) == [True, False, False]


def test_an_edit_of_a_stage_s_own_file_runs_it_again(workshop):
    workshop.run(*CHAIN)
    flip(workshop.folder / "quick.py", b"a bug", b"a BUG")
    assert cached(workshop.run(*CHAIN)) == [True, False, False]


def while_it_runs(run, change) -> None:
    """Execute a run whose last stage makes a change first."""
    stage = run.plan.loaded.steps[-1].stage
    plain = type(stage).run

    def changed(self, context, model):
        change()
        return plain(self, context, model)

    object.__setattr__(stage, "run", changed.__get__(stage))
    execute(run)


@pytest.mark.parametrize("when", ["after the plan", "while it runs"])
def test_code_that_is_edited_meanwhile_stores_nothing(workshop, when):
    """The old code runs: its result must not be found under the new code's fingerprint."""
    run = workshop.open(*CHAIN)
    run.plan.steps()

    def edit():
        flip(workshop.folder / "quick.py", b"a bug", b"a BUG")

    if when == "after the plan":
        edit()
    with pytest.raises(RarefyError, match=r"quick\.py: the file has changed since it was loaded"):
        while_it_runs(run, edit if when == "while it runs" else lambda: None)
    assert cached(workshop.run(*CHAIN))[-1] is False
    assert cached(workshop.run(*CHAIN)) == [True] * 3


def test_a_file_that_changes_while_a_stage_reads_it_stores_nothing(workshop):
    notes = workshop.folder / "notes.txt"
    notes.write_text("a")
    stages = ("quick:Word", {"quick:Listen": {"to": "word", "file": "notes.txt"}})
    with pytest.raises(RarefyError, match=r"listen: \S+notes\.txt changed while the stage ran"):
        while_it_runs(workshop.open(*stages), lambda: notes.write_text("b"))
    assert cached(workshop.run(*stages)) == [True, True, False]


HELPED = """
from typing import ClassVar

import speech
from rarefy.pipeline.stage import Draft, Stage
from quick import Word


class Say(Word):
    name: ClassVar[str] = "say"

    def run(self, context, model):
        from late import loudly

        with (context.base / "ran.log").open("a") as log:
            log.write("say\\n")
        (context.output / "word.txt").write_text(loudly(speech.word()))
        return Draft()
"""


@pytest.fixture
def helped(workshop):
    """A stage that imports a module, which imports another, and a third one while it runs."""
    for name, text in {
        "own": HELPED,
        "speech": "import deeper\n\n\ndef word():\n    return deeper.WORD\n",
        "deeper": "WORD = 'aaa'\n",
        "late": "def loudly(word):\n    return word.upper()\n",
    }.items():
        (workshop.folder / f"{name}.py").write_text(text)
    return workshop


@pytest.mark.parametrize(
    ("name", "old", "new", "word"),
    [
        ("speech", b"deeper.WORD", b"'b' + 'b'  ", "BB"),
        ("deeper", b"aaa", b"ccc", "CCC"),
        ("late", b"upper", b"title", "Aaa"),
    ],
)
def test_an_edit_of_a_module_that_a_stage_imports_runs_it_again(helped, name, old, new, word):
    assert helped.run("own:Say")["say"].artifact.path("word.txt").read_text() == "AAA"
    flip(helped.folder / f"{name}.py", old, new)
    said = helped.run("own:Say")["say"]
    assert said.cached is False
    assert said.artifact.path("word.txt").read_text() == word
    flip(helped.folder / f"{name}.py", new, old)
    assert helped.run("own:Say")["say"].cached, "the first result is that of this code"


def test_a_module_that_is_edited_meanwhile_stores_nothing(helped):
    run = helped.open("own:Say")
    with pytest.raises(RarefyError, match=r"late\.py: the file has changed since it was loaded"):
        while_it_runs(run, lambda: flip(helped.folder / "late.py", b"upper", b"title"))
    said = helped.run("own:Say")["say"]
    assert (said.cached, said.artifact.path("word.txt").read_text()) == (False, "Aaa")


def test_two_recipes_modules_of_the_same_name_stay_apart(helped, tmp_path):
    """Both are loaded before either runs, as in a notebook."""
    other = Workshop(tmp_path / "other")
    shutil.copytree(helped.folder, other.folder, ignore=shutil.ignore_patterns("store", "other"))
    (other.folder / "deeper.py").write_text("WORD = 'zzz'\n")
    (other.folder / "late.py").write_text("def loudly(word):\n    return word\n")
    runs = [helped.open("own:Say"), other.open("own:Say")]
    for run, word in zip(runs, ["AAA", "zzz"], strict=True):
        assert execute(run)["say"].artifact.path("word.txt").read_text() == word


NOTEBOOK = """
from typing import ClassVar

from rarefy.pipeline.stage import Policy
from quick import Word


class Cell(Word):
    name: ClassVar[str] = "cell"
    policy: ClassVar[Policy] = Policy(keeps_files=True)

    def run(self, context, model):
        progress = [path.name for path in (*context.work.iterdir(), *context.shared.iterdir())]
        assert not progress, "it is of other code"
        (context.shared / "mark").touch()
        return super().run(context, model)
"""


def test_a_stage_of_a_notebook_runs_every_time_and_says_so(workshop, monkeypatch):
    """The step after it is cached as long as the output stays the same."""
    kernel = ModuleType("kernel_of_a_notebook")
    monkeypatch.setitem(sys.modules, kernel.__name__, kernel)
    monkeypatch.syspath_prepend(workshop.folder)
    exec(NOTEBOOK, vars(kernel))
    cell = f"{kernel.__name__}:Cell"
    note = "cell: defined in a notebook: runs every time; put it in a file to cache it"
    with pytest.raises(RarefyError, match="a bug"):
        workshop.run({cell: {"fail": True}})
    for expected in ([True, False, False], [True, False, True]):
        run = workshop.open(cell, "quick:Word")
        assert note in run.plan.warnings
        assert cached(execute(run)) == expected
    assert workshop.run({cell: {"word": "new"}}, "quick:Word")["word"].cached is False


def test_a_stage_s_other_files_count_and_must_be_there(empty_workshop):
    stages = ("quick:Word", {"quick:Listen": {"to": "word", "file": "notes.txt"}})
    with pytest.raises(
        RecipeError, match=r"trial\.yaml:\d+: stages\[1\].*notes\.txt: no such file"
    ):
        empty_workshop.open(*stages).plan.steps()
    assert empty_workshop.ran() == [], "known before anything ran"
    notes = empty_workshop.folder / "notes.txt"
    notes.write_text("a")
    assert cached(empty_workshop.run(*stages)) == [False, False, False]
    flip(notes, b"a", b"b")
    assert cached(empty_workshop.run(*stages)) == [True, True, False]


def test_another_model_is_another_import(workshop):
    workshop.run(*CHAIN)
    flip(workshop.folder / "model/config.json", b'"hidden_act": "gelu"', b'"hidden_act": "relu"')
    assert cached(workshop.run(*CHAIN)) == [False] * 3


# Data: never a stale number


def test_one_changed_byte_of_train_trains_again(workshop):
    stages = ("quick:Word", "quick:Count")
    workshop.run(*stages)
    flip(workshop.folder / "train.jsonl", b'"negative"', b'"positive"')
    assert cached(workshop.run(*stages)) == [True, True, False]


def test_a_stage_gets_no_split_that_it_does_not_declare(workshop):
    with pytest.raises(RecipeError, match=r"peek: data\.eval: the stage needs this split"):
        workshop.run("quick:Peek")


def test_a_stage_gets_the_artifacts_that_it_names_and_no_others(workshop):
    finished = workshop.run(
        {"quick:Word": {"word": "one"}, "as": "a"},
        {"quick:Word": {"word": "two"}, "as": "b"},
        {"quick:Word": {"word": "three"}, "as": "c"},
        {"quick:Listen": {"to": "a"}},
    )
    heard = finished["listen"].artifact
    assert heard.path("word.txt").read_text() == "one ['a', 'c']"
    roles = {parent.role: parent.digest for parent in heard.manifest.parents}
    assert roles == {
        "speaker": finished["a"].artifact.digest,
        "input": finished["c"].artifact.digest,
    }


def test_a_step_that_is_input_and_reference_has_both_roles(workshop):
    finished = workshop.run({"quick:Word": {}, "as": "a"}, {"quick:Listen": {"to": "a"}})
    assert [p.role for p in finished["listen"].artifact.manifest.parents] == ["speaker", "input"]


# Scores and the ledger


def test_the_ledger_has_a_row_for_every_step(workshop):
    run = workshop.open("quick:Head")
    execute(run)
    model, head = run.ledger()
    assert (model.id, model.accuracy, model.kind) == ("model", None, "encoder")
    assert (head.id, head.metric, head.rows) == ("head", "accuracy", 12)
    value, low, high = head.accuracy
    assert 0 <= low <= value <= high <= 1
    assert head.size == sum(f.size for f in run.finished["head"].artifact.manifest.files)
    from rarefy.pipeline.model import checkpoint

    network = checkpoint.load(run.finished["head"].artifact.directory)
    assert head.parameters == sum(p.numel() for p in network.parameters())


def test_a_metric_that_is_nan_is_no_artifact(workshop):
    run = workshop.open("quick:Word")
    stage = run.plan.loaded.steps[0].stage
    object.__setattr__(stage, "metric", float("nan"))
    with pytest.raises((RarefyError, ValueError)) as caught:
        execute(run)
    assert "\n" not in str(caught.value)
    assert len(workshop.store.digests()) == 1, "the imported model"


# Errors


def test_a_stage_that_fails_names_itself_and_keeps_what_was_done(workshop):
    stages = (CHAIN[0], {"quick:Word": {"word": "two", "fail": True}, "as": "second"})
    with pytest.raises(RarefyError, match=r"^second: ZeroDivisionError: a bug$") as caught:
        workshop.run(*stages)
    assert caught.value.exit_code == 1
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert list((workshop.store.root / "tmp").iterdir()) == []
    assert cached(workshop.run(*CHAIN)) == [True, True, False]


@pytest.mark.parametrize(
    ("stage", "error", "message"),
    [
        ("quick:Nothing", RarefyError, "nothing: the stage 'nothing' wrote no file"),
        ("quick:Link", IntegrityError, "an artifact must contain regular files only"),
    ],
)
def test_what_cannot_be_published_is_not(workshop, stage, error, message):
    with pytest.raises(error, match=message):
        workshop.run(stage)
    assert len(workshop.store.digests()) == 1, "the imported model"


def test_a_full_disk_in_the_middle_of_a_stage(workshop, monkeypatch):
    workshop.run(CHAIN[0])
    run = workshop.open(*CHAIN)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(run.plan.loaded.steps[1].stage), "run", full)
    with pytest.raises(ProviderError, match="the disk is full; free some space"):
        execute(run)
    monkeypatch.undo()
    assert cached(workshop.run(*CHAIN)) == [True, True, False]


# Garbage collection meanwhile


def test_what_a_run_has_in_use_is_not_deleted_under_it(workshop):
    workshop.run(*CHAIN)
    run = workshop.open(*CHAIN)
    execute(run)
    assert Collector(workshop.store, days=-1).find() == []
    del run
    gc.collect()
    assert len(Collector(workshop.store, days=-1).find()) == 3


def test_an_input_that_gc_deleted_after_the_plan_is_said(workshop):
    word = workshop.run(CHAIN[0])["word"].artifact
    run = workshop.open(*CHAIN)
    for found in Collector(workshop.store, days=-1).find():
        assert Collector(workshop.store, days=-1).delete(found)
    with pytest.raises(IntegrityError, match="was deleted meanwhile; run again"):
        run.check(word)
    assert cached(workshop.run(*CHAIN)) == [False, False, False]


# Damage


def test_a_flipped_bit_is_caught_before_a_stage_reads_it(workshop):
    word = workshop.run(CHAIN[0])["word"].artifact
    flip(word.path("word.txt"), b"one", b"onE")
    with pytest.raises(
        IntegrityError, match=r"\(word\) is damaged: word\.txt.*gc --damaged"
    ) as caught:
        workshop.run(*CHAIN)
    assert caught.value.exit_code == 6
    assert workshop.ran() == ["one"]
    collector = Collector(workshop.store, days=14, damaged=True)
    assert [collector.delete(found) for found in collector.find()] == [True]
    assert cached(workshop.run(*CHAIN)) == [True, False, False]


def test_a_cut_file_is_caught_by_the_next_plan(workshop):
    word = workshop.run(CHAIN[0])["word"].artifact
    overwrite(word.path("word.txt"), "o")
    with pytest.raises(IntegrityError, match=r"word\.txt is missing or truncated"):
        workshop.open(*CHAIN).plan.steps()


# A real chain, and the cost of importing the engine


def test_real_stages_on_a_tiny_model_are_cached_too(workshop):
    stages = ({"finetune": {"epochs": 1}}, {"finetune": {"epochs": 1}, "as": "again"})
    first, second = workshop.run(*stages), workshop.run(*stages)
    assert cached(second) == [True] * 3
    assert second["again"].scores == first["again"].scores
    artifact = second["again"].artifact
    assert list_files(artifact.directory, {e.path: e.role for e in artifact.manifest.files}) == (
        artifact.manifest.files
    )


def test_a_store_moved_elsewhere_still_hits(workshop):
    workshop.run(*CHAIN)
    shutil.move(workshop.folder / "store", workshop.folder / "moved")
    loaded = recipes.load(workshop.recipe(*CHAIN))
    run = Run(Plan(loaded, type(workshop.store)(workshop.folder / "moved")))
    assert cached(execute(run)) == [True] * 3
    assert MODEL in run.finished


def test_the_engine_loads_nothing_heavy():
    heavy = ("torch", "transformers", "onnxruntime", "onnx", "prefect", "datasets", "scipy", "peft")
    code = (
        "import rarefy.pipeline.run.engine, rarefy.pipeline.run.outcome, sys;"
        "import rarefy.pipeline.recipe.schema;"
        "rarefy.pipeline.recipe.schema.json_schema();"
        f"print(*[m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""
