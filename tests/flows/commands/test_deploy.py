"""A recipe for workers elsewhere: written, checked, applied, and what is wrong is said first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rarefy.flows.commands import deploy
from rarefy.pipeline.terms.errors import RecipeError
from tests.fleet import free_port
from tests.project import Project, Said

GIT = ("--git", "https://example.org/models.git@main:recipes/tiny.yaml")


@pytest.fixture
def recipe(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.folder)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return project.recipe("quickstages:Head", "quickstages:Judge")


def test_the_file_is_written_without_a_server_and_names_no_path_of_this_machine(
    recipe: Path, project: Project, rarefy: Callable[..., Said]
) -> None:
    said = rarefy(
        *("deploy", recipe, "--pool", "nightly", "--cron", "0 3 * * *", "--write-only", *GIT),
        *("--store", "s3://models/rarefy", "--machine", "rack-7"),
        *("--tag", "team-a", "--job-variable", "env={RAREFY_HOME: /var/lib/rarefy}", "--json"),
        "--strict",
    )
    assert said.code == 0, said.err
    facts = json.loads(said.out)
    assert (facts["deployment"], facts["applied"]) == ("rarefy-compress/tiny", False)
    text = (project.folder / "prefect.yaml").read_text()
    assert str(project.folder) not in text
    [entry] = yaml.safe_load(text)["deployments"]
    assert entry["version"] == facts["version"]
    assert entry["tags"] == ["rarefy", "recipe:tiny", "team-a"]
    assert entry["parameters"] == {
        "recipe": f"git+{GIT[1]}",
        "command": "rarefy run tiny.yaml",
        "store": "s3://models/rarefy",
        "machine": "rack-7",
        "device": "auto",
        "strict": True,
    }


def test_without_a_place_the_recipe_and_its_files_are_sent_to_the_store(
    recipe: Path, project: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = ("deploy", recipe, "--pool", "p", "--store", store.as_uri(), "--write-only", "--json")
    source = json.loads(rarefy(*command).out)["recipe"]
    sent = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    place = source.removeprefix(f"{store.as_uri()}/").removesuffix("/tiny.yaml")
    assert place.startswith("recipes/tiny-")
    assert f"{place}/tiny.yaml" in sent
    assert f"{place}/encoder/model.safetensors" in sent
    assert f"{place}/train.jsonl" in sent
    (project.folder / "train.jsonl").write_text('{"text": "new", "label": "positive"}\n')
    assert json.loads(rarefy(*command).out)["recipe"] != source, "other bytes, another place"


def test_a_pool_of_containers_is_said_to_be_only_checked(
    recipe: Path, rarefy: Callable[..., Said]
) -> None:
    said = rarefy(
        *("deploy", recipe, "--pool", "p", "--type", "kubernetes", "--write-only", *GIT),
        *("--job-variable", "image=registry/rarefy:1", "--job-variable", "namespace=ml"),
    )
    assert said.code == 0, said.err
    assert "checked against Prefect's schema of kubernetes pools" in said.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), "a worker elsewhere cannot read"),
        (("--git", "https://h/r.git"), "REPOSITORY@REVISION:PATH"),
        (("--git", "https://me:secret@h/r.git@main:a.yaml"), "contains credentials"),
        ((*GIT, "--job-variable", "env={A: 'https://me:secret@h'}"), "contains credentials"),
        ((*GIT, "--tag", "a", "--tag", "https://me:secret@h"), "contains credentials"),
        ((*GIT, "--machine", "https://me:secret@h"), "contains credentials"),
        ((*GIT, "--name", "https://me:secret@h"), "contains credentials"),
        ((*GIT, "--store", "models"), "--store models: expected a URL"),
        ((*GIT, "--store", "s3://m/rarefy#production"), "without a tag, e.g. s3://m/rarefy;"),
        ((*GIT, "--report-url", "https://reports"), "--report-url needs a --store"),
        ((*GIT, "--cron", "every night"), "--cron 'every night'"),
        ((*GIT, "--cron", ""), "--cron ''"),
        ((*GIT, "--job-variable", "colour=red"), "--job-variable colour"),
        ((*GIT, "--type", "docker"), "--job-variable image=NAME"),
        ((*GIT, "--type", "mainframe"), "no such type of work pools"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    recipe: Path,
    project: Project,
    rarefy: Callable[..., Said],
    options: tuple[str, ...],
    named: str,
) -> None:
    said = rarefy("deploy", recipe, "--pool", "p", "--write-only", *options)
    assert (said.code, said.out) == (2, "")
    assert named in said.err
    assert "secret" not in said.err
    assert not (project.folder / "prefect.yaml").exists()


def test_without_a_server_the_commands_are_said(
    recipe: Path, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = rarefy("deploy", recipe, "--pool", "p", *GIT)
    assert said.code == 5
    assert f"rarefy deploy {recipe} --pool p {' '.join(GIT)}" in said.err
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    assert "does not respond" in rarefy("deploy", recipe, "--pool", "p", *GIT).err


def test_a_store_that_cannot_be_written_is_known_before_anything_runs(tmp_path: Path) -> None:
    options = {"git": GIT[1], "report_url": None, "store": "http://127.0.0.1:9/store"}
    assert deploy.publish_recipe(tmp_path / "a.yaml", options, write_only=True) == f"git+{GIT[1]}"
    with pytest.raises(RecipeError, match="this remote is read-only"):
        deploy.publish_recipe(tmp_path / "a.yaml", options, write_only=False)


def test_the_folder_of_the_file_is_made(
    recipe: Path, project: Project, rarefy: Callable[..., Said]
) -> None:
    deploy = ("deploy", recipe, "--pool", "p", "--write-only", *GIT, "--file")
    assert rarefy(*deploy, "new/prefect.yaml").code == 0
    assert (project.folder / "new" / "prefect.yaml").is_file()
    said = rarefy(*deploy, "tiny.yaml/prefect.yaml")
    assert (said.code, "tiny.yaml/prefect.yaml: cannot be written" in said.err) == (2, True)
