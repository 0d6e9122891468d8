"""What is written for Prefect: no path of this machine, and nothing of others is lost."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rarefy.flows.deploy import deployment
from rarefy.flows.deploy.deployment import Deployment
from rarefy.flows.sharing.recipe_source import InGit
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.terms.errors import RecipeError
from tests.flows.runs import PASSES
from tests.project import Project


@pytest.fixture
def loaded(project: Project) -> LoadedRecipe:
    return recipes.load(project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES))


@pytest.fixture
def made(loaded: LoadedRecipe) -> Callable[..., Deployment]:
    def make(**changes: Any) -> Deployment:
        given = {"name": "tiny", "source": "s3://models/recipes/tiny.yaml", "pool": "nightly"}
        return Deployment(loaded=loaded, **given | changes)

    return make


def test_a_file_of_a_stage_outside_the_folder_is_refused(project: Project) -> None:
    facts = project.folder.parent / "facts.jsonl"
    facts.write_text('{"text": "a fact"}\n')
    own = recipes.load(project.recipe(f"inject: {{facts: {facts}}}", "quickstages:Head"))
    with pytest.raises(RecipeError, match=r"inject: .*facts.jsonl is a path of this machine"):
        deployment.check_portable(own)
    beside = project.folder / "facts.jsonl"
    facts.rename(beside)
    inside = recipes.load(project.recipe("inject: {facts: facts.jsonl}", "quickstages:Head"))
    deployment.check_portable(inside)


def test_with_git_a_stage_may_read_what_the_repository_contains(project: Project) -> None:
    (project.folder.parent / "facts.jsonl").write_text('{"text": "a fact"}\n')
    loaded = recipes.load(project.recipe("inject: {facts: ../facts.jsonl}", "quickstages:Head"))
    address = "https://example.org/models.git@main:"
    deployment.check_portable(loaded, InGit.parse(f"{address}recipes/tiny.yaml"))
    with pytest.raises(
        RecipeError, match=r"inject: \.\./facts\.jsonl is outside of the repository"
    ):
        deployment.check_portable(loaded, InGit.parse(f"{address}tiny.yaml"))
    with pytest.raises(RecipeError, match=r"inject: .* names '\.\./facts\.jsonl'.* or use --git$"):
        deployment.check_portable(loaded)


def test_a_path_of_this_machine_is_refused_also_beside_the_recipe(project: Project) -> None:
    """A worker has the file, but elsewhere."""
    facts = project.folder / "facts.jsonl"
    facts.write_text('{"text": "a fact"}\n')
    loaded = recipes.load(project.recipe(f"inject: {{facts: {facts}}}", "quickstages:Head"))
    with pytest.raises(RecipeError, match=f"inject: {facts} is a path of this machine"):
        deployment.check_portable(loaded, InGit.parse("https://h/r.git@main:a/tiny.yaml"))


def test_a_model_of_a_package_is_no_path_of_this_machine(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path_factory.mktemp("packages")
    shutil.copytree(project.folder / "encoder", packages / "models" / "student")
    (packages / "models" / "__init__.py").touch()
    monkeypatch.syspath_prepend(packages)
    stage = "distill: {student: 'package:models/student', teacher: head}"
    deployment.check_portable(recipes.load(project.recipe("quickstages:Head", stage)))


def test_an_entry_says_what_a_worker_elsewhere_needs(made: Callable[..., Deployment]) -> None:
    entry = made(
        cron="0 3 * * *",
        timezone="Europe/Berlin",
        busy="skip",
        tags=("team-a", "rarefy"),
        parameters={"store": "s3://models/rarefy", "threads": None},
        job_variables={"env": {"A": "b"}},
    ).entry(["rarefy", "recipe:tiny"])
    assert entry == {
        "name": "tiny",
        "version": made().version,
        "description": "encoder → head → judge; 1 budget",
        "tags": ["rarefy", "recipe:tiny", "team-a"],
        "entrypoint": "rarefy.flows.run.flow.compress",
        "pull": [
            {"prefect.deployments.steps.pull_from_remote_storage": {"url": "s3://models/recipes"}},
            {"prefect.deployments.steps.set_working_directory": {"directory": "."}},
        ],
        "parameters": {
            "recipe": "s3://models/recipes/tiny.yaml",
            "command": "rarefy run tiny.yaml",
            "store": "s3://models/rarefy",
        },
        "schedules": [{"cron": "0 3 * * *", "timezone": "Europe/Berlin", "active": True}],
        "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
        "work_pool": {"name": "nightly", "job_variables": {"env": {"A": "b"}}},
    }


def test_the_command_has_the_options_that_the_result_depends_on(
    made: Callable[..., Deployment],
) -> None:
    given = {"device": "cuda", "threads": 2, "machine": "rack-7"}
    command = made(parameters=given).entry([])["parameters"]["command"]
    assert command == "rarefy run --device cuda --threads 2 tiny.yaml"
    spaced = made(source="s3://models/my recipe.yaml").entry([])["parameters"]["command"]
    assert shlex.split(spaced) == ["rarefy", "run", "my recipe.yaml"]


def test_prefect_s_own_model_of_the_file_reads_an_entry(made: Callable[..., Deployment]) -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    entry = made(cron="0 3 * * *").entry(["rarefy"])
    [read] = PrefectYamlModel.model_validate({"deployments": [entry]}).deployments
    assert read.schedules is not None
    assert read.schedules[0].cron == "0 3 * * *"  # type: ignore[union-attr]
    assert read.concurrency_limit.collision_strategy == "ENQUEUE"  # type: ignore[union-attr]


def test_the_version_is_the_recipe_s_digest(
    made: Callable[..., Deployment], loaded: LoadedRecipe
) -> None:
    import hashlib

    assert loaded.path is not None
    digest = hashlib.sha256(loaded.path.read_bytes()).hexdigest()
    assert made().version == digest[:12]


def test_an_entry_of_the_same_name_is_replaced_and_others_stay(
    made: Callable[..., Deployment], tmp_path: Path
) -> None:
    path = tmp_path / "prefect.yaml"
    for name, pool in (("one", "a"), ("two", "a"), ("one", "b")):
        deployment.write(path, made(name=name, pool=pool).entry([]), "3.9.1")
    values = yaml.safe_load(path.read_text())
    assert values["prefect-version"] == "3.9.1"
    pools = [(each["name"], each["work_pool"]["name"]) for each in values["deployments"]]
    assert pools == [("two", "a"), ("one", "b")]


def test_a_file_of_somebody_else_is_left_alone(
    made: Callable[..., Deployment], tmp_path: Path
) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text("# mine\ndeployments: []\n")
    with pytest.raises(RecipeError, match=r"rarefy did not write this .* another --file"):
        deployment.write(path, made().entry([]), "3.9.1")
    assert path.read_text() == "# mine\ndeployments: []\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- deployments\n",
        "name: x\n",
        "deployments:\n",
        "deployments: {name: one}\n",
        "deployments: [one]\n",
        "deployments: [{version: 1}]\n",
    ],
)
def test_a_file_that_was_edited_to_something_else_is_refused(
    made: Callable[..., Deployment], tmp_path: Path, text: str
) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(deployment.HEADER + text)
    with pytest.raises(RecipeError) as refused:
        deployment.write(path, made().entry([]), "3.9.1")
    assert str(refused.value) == f"{path}: not a prefect.yaml of rarefy; give another --file"
    assert path.read_text() == deployment.HEADER + text


def test_a_file_that_is_no_text_is_refused(made: Callable[..., Deployment], tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="rarefy did not write this"):
        deployment.write(tmp_path / "prefect.yaml", made().entry([]), "3.9.1")


@pytest.mark.parametrize(
    ("budgets", "ok"),
    [
        ("budgets:\n  - {metric: accuracy, max_drop: 1 point, against: production}\n", False),
        (
            "budgets:\n  - {metric: accuracy, max_drop: 1 point, against: 's3://models/store#production'}\n",
            True,
        ),
        ("budgets:\n  - {metric: accuracy, max_drop: 1 point, against: head}\n", True),
    ],
)
def test_a_tag_of_this_machine_s_store_is_refused(project: Project, budgets: str, ok: bool) -> None:
    path = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budgets)
    loaded = recipes.load(path)
    if ok:
        deployment.check_portable(loaded)
        return
    with pytest.raises(RecipeError, match=rf"{path}:9: .*'production'.* compare with URL#TAG"):
        deployment.check_portable(loaded)


def test_a_model_of_this_machine_s_store_is_refused(project: Project) -> None:
    path = project.recipe("quickstages:Head")
    text = path.read_text().replace("model: encoder", "model: tag:base")
    path.write_text(text)
    with pytest.raises(RecipeError, match=rf"{path}:3: model: tag:base is in this machine's store"):
        deployment.check_portable(recipes.load(path))


def test_a_path_of_this_machine_is_refused(project: Project) -> None:
    path = project.recipe("quickstages:Head")
    path.write_text(path.read_text().replace("train.jsonl", f"{project.folder}/train.jsonl"))
    with pytest.raises(RecipeError, match=r"data\.train: .* is a path of this machine"):
        deployment.check_portable(recipes.load(path))


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_job_variables_are_checked_against_prefect_s_own_schema(kind: str) -> None:
    template = deployment.template_of(kind)
    image = {} if kind == "process" else {"image": "registry/rarefy:1"}
    deployment.check_variables({"env": {"A": "b"}, **image}, template, "p", kind)
    with pytest.raises(RecipeError, match=r"--job-variable colour: .* has no such variable"):
        deployment.check_variables({"colour": "red", **image}, template, "p", kind)
    with pytest.raises(RecipeError, match="--job-variable env"):
        deployment.check_variables({"env": "A=b", **image}, template, "p", kind)


def test_a_pool_of_containers_needs_an_image() -> None:
    with pytest.raises(RecipeError, match="name an image that has rarefy"):
        deployment.check_variables({}, deployment.template_of("docker"), "p", "docker")


def test_an_unknown_type_of_pools_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"known: process, .*kubernetes"):
        deployment.template_of("mainframe")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("image=a:1", ("image", "a:1")),
        ("cpu=2", ("cpu", 2)),
        ("env={A: b}", ("env", {"A": "b"})),
        ("command=a=b", ("command", "a=b")),
    ],
)
def test_a_job_variable_is_yaml(text: str, parsed: tuple[str, Any]) -> None:
    assert deployment.variable(text) == parsed


@pytest.mark.parametrize("text", ["image", "a b=c", "env={A: "])
def test_a_job_variable_that_is_wrong(text: str) -> None:
    with pytest.raises(RecipeError, match="--job-variable"):
        deployment.variable(text)
