"""A recipe is sent with the files that it names, and Prefect fetches it for workers."""

from __future__ import annotations

import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from flows import recipe_source
from flows.recipe_source import InGit
from pipeline.recipe import recipe as recipes
from pipeline.terms.errors import ProviderError, RecipeError
from tests.pipeline.store.conftest import bucket, shared

__all__ = ["bucket", "shared"]
"""Fixtures that are found here."""

RECIPE = """
name: demo
model: models/encoder
data: {train: data/train.jsonl, eval: data/eval.jsonl}
stages:
  - own:Word: {word: "a sentence, with\\nlines"}
"""
OWN = """
from typing import ClassVar
import json
import shared_words
from pipeline.stage import Stage


class Word(Stage):
    name: ClassVar[str] = "word"
    word: str
"""


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder of recipes, in which not everything belongs to this one."""
    folder = tmp_path / "there"
    for name, text in {
        "demo.yaml": RECIPE,
        "own.py": OWN,
        "shared_words.py": "WORDS = ()\n",
        "models/encoder/config.json": "{}",
        "models/encoder/1_Pooling/config.json": '{"pooling": 1}',
        "models/other/config.json": "{}",
        "data/train.jsonl": "{}\n",
        "data/eval.jsonl": "{}\n",
        "data/huge.jsonl": "{}\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


NEEDED = {
    "demo.yaml",
    "own.py",
    "shared_words.py",
    "models/encoder/config.json",
    "models/encoder/1_Pooling/config.json",
    "data/train.jsonl",
    "data/eval.jsonl",
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_path_of_this_machine_is_used_where_it_is(here: Path) -> None:
    assert not recipe_source.is_remote("recipes/demo.yaml")
    assert recipe_source.local_path("recipes/demo.yaml", here) == Path("recipes/demo.yaml")
    assert recipe_source.pull_steps("recipes/demo.yaml") == [recipe_source.STAY]


def test_what_is_sent_to_a_store_is_fetched_from_there(
    there: Path, here: Path, tmp_path: Path
) -> None:
    store = (tmp_path / "store").as_uri()
    source = recipe_source.send(there / "demo.yaml", store)
    assert source.startswith(f"{store}/recipes/demo-")
    [cut] = (tmp_path / "store").rglob("train.jsonl")
    cut.chmod(0o644)
    cut.write_text("{")  # a transfer that broke off
    assert recipe_source.send(there / "demo.yaml", store) == source
    path = recipe_source.fetch(source, here)
    assert files(path.parent) == NEEDED
    assert (path.parent / "data/train.jsonl").read_text() == "{}\n"
    assert files(here) == set(), "a folder that is mounted is used where it is"
    assert recipes.load(path).recipe.name == "demo"


def test_prefect_fetches_what_was_sent_to_a_bucket(there: Path, here: Path, shared: str) -> None:
    source = recipe_source.send(there / "demo.yaml", shared)
    path = recipe_source.fetch(source, here)
    assert files(path.parent) == NEEDED
    assert path == recipe_source.local_path(source, here)
    assert path.is_relative_to(here)
    pulled, stayed = recipe_source.pull_steps(source)
    assert pulled == {
        "prefect.deployments.steps.pull_from_remote_storage": {"url": source.rpartition("/")[0]}
    }
    assert stayed == recipe_source.STAY


def test_hidden_files_of_a_folder_stay_where_they_are(there: Path, tmp_path: Path) -> None:
    """A model's folder may be a git clone. What the recipe itself names is not hidden from it."""
    (there / "models").rename(there / ".models")
    (there / "demo.yaml").write_text(RECIPE.replace("models/encoder", ".models/encoder"))
    model = there / ".models" / "encoder"
    for name in (".env", ".git/config", "1_Pooling/.token", "__pycache__/own.pyc"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("hf_SECRET")
    wanted = {name.replace("models/", ".models/") for name in NEEDED}
    recipe_source.send(there / "demo.yaml", (tmp_path / "store").as_uri())
    [sent] = (tmp_path / "store" / "recipes").iterdir()
    assert files(sent) == wanted


PACKAGED = {
    "own.py": "import numpy.linalg\nimport helpers.util\nfrom helpers import words\n",
    "helpers/__init__.py": "",
    "helpers/util.py": "from .deep.inner import INNER\nfrom . import beside as b\n",
    "helpers/words.py": "def words():\n    from plain import lists\n",
    "helpers/beside.py": "import stages.own\n",
    "helpers/deep/__init__.py": "import own\n",
    "helpers/deep/inner.py": "INNER = 1\n",
    "plain/lists.py": "",
}
UNUSED = {
    "helpers/unused.py": "",
    "helpers/words.txt": "",
    "plain/unused.py": "",
    "stages/own.py": "",
}


@pytest.fixture
def packaged(there: Path) -> set[str]:
    """Let the stage's module import packages; return the files that the recipe then needs."""
    for name, text in {**PACKAGED, **UNUSED}.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text(text)
    return (NEEDED | set(PACKAGED)) - {"shared_words.py"}


def test_packages_that_a_stage_imports_are_sent(
    there: Path, packaged: set[str], tmp_path: Path
) -> None:
    source = recipe_source.send(there / "demo.yaml", (tmp_path / "store").as_uri())
    assert files(Path(source.removeprefix("file://")).parent) == packaged


def test_a_stage_in_a_package_is_sent(there: Path, packaged: set[str], tmp_path: Path) -> None:
    (there / "demo.yaml").write_text(RECIPE.replace("own:Word", "helpers.util:Word"))
    source = recipe_source.send(there / "demo.yaml", (tmp_path / "store").as_uri())
    sent = files(Path(source.removeprefix("file://")).parent)
    assert {"helpers/__init__.py", "helpers/util.py", "helpers/deep/inner.py"} <= sent
    assert "helpers/unused.py" not in sent


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(there: Path) -> str:
    git(there, "init", "--quiet", "--initial-branch=main")
    git(there, "config", "user.email", "a@example.org")
    git(there, "config", "user.name", "a")
    git(there, "add", ".")
    git(there, "commit", "--quiet", "--message=one")
    git(there, "tag", "v1")
    git(there, "checkout", "--quiet", "-b", "next")
    (there / "demo.yaml").write_text(RECIPE.replace("name: demo", "name: next"))
    git(there, "commit", "--quiet", "--all", "--message=two")
    git(there, "checkout", "--quiet", "main")
    return there.as_uri()


@pytest.mark.parametrize(("revision", "name"), [("main", "demo"), ("v1", "demo"), ("next", "next")])
def test_a_recipe_in_git_at_a_branch_or_tag(
    repository: str, here: Path, revision: str, name: str
) -> None:
    source = f"git+{repository}@{revision}:demo.yaml"
    path = recipe_source.fetch(source, here)
    assert path == recipe_source.local_path(source, here)
    assert recipes.load(path).recipe.name == name
    assert (path.parent / "data" / "huge.jsonl").is_file(), "the repository is whole"
    assert recipe_source.pull_steps(source) == [
        {
            "prefect.deployments.steps.git_clone": {
                "repository": repository,
                "branch": revision,
                "clone_directory_name": "repository",
            }
        },
        recipe_source.STAY,
    ]


def test_a_recipe_in_git_at_a_commit(repository: str, there: Path, here: Path) -> None:
    shown = subprocess.run(
        ["git", "-C", str(there), "rev-parse", "next"], capture_output=True, text=True, check=True
    )
    path = recipe_source.fetch(f"git+{repository}@{shown.stdout.strip()}:demo.yaml", here)
    assert recipes.load(path).recipe.name == "next"


@pytest.mark.parametrize(
    ("suffix", "error", "words"),
    [
        ("@v9:demo.yaml", ProviderError, "v9"),
        ("@main:none.yaml", RecipeError, r"none\.yaml: no such recipe"),
        ("x@main:demo.yaml", ProviderError, "cannot be fetched: .*therex"),
    ],
)
def test_what_is_not_in_git(
    repository: str, here: Path, suffix: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        recipe_source.fetch(f"git+{repository}{suffix}", here)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://host/o/r.git@main:a/b.yaml", ("https://host/o/r.git", "main", "a/b.yaml")),
        ("http://127.0.0.1:80/r@v1.2:b.yaml", ("http://127.0.0.1:80/r", "v1.2", "b.yaml")),
        ("git@host:o/r.git@feature/x:b.yaml", ("git@host:o/r.git", "feature/x", "b.yaml")),
        ("file:///srv/r.git@0123abc:b.yaml", ("file:///srv/r.git", "0123abc", "b.yaml")),
    ],
)
def test_an_address_in_git_is_taken_apart_and_put_together(
    text: str, parts: tuple[str, str, str]
) -> None:
    found = InGit.parse(text)
    assert (found.repository, found.revision, found.path) == parts
    assert InGit.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://host/r.git", "is not REPOSITORY@REVISION:PATH"),
        ("/srv/r.git@main:b.yaml", "is a path of this machine"),
        ("https://user:secret@host/r.git@main:b.yaml", "contains credentials"),
        ("https://user:secret@host/r.git:b.yaml", "^--git: give .*, without credentials$"),
        ("https://secret@host/r.git:b.yaml", "^--git: give .*, without credentials$"),
        ("https://host/r.git@--upload-pack=x:b.yaml", "is not valid"),
        ("https://host/r.git@main:../b.yaml", "is not valid"),
    ],
)
def test_an_address_in_git_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        InGit.parse(text)


def test_only_what_may_be_a_file_is_sent(there: Path, tmp_path: Path) -> None:
    """A folder called like the recipe, and a file like a column, are none of the recipe's."""
    (there / "demo").mkdir()
    (there / "demo" / "secret.env").write_text("TOKEN=1")
    (there / "text").write_text("notes")
    recipe = there / "demo.yaml"
    recipe.write_text(RECIPE.replace("eval.jsonl}", 'eval.jsonl, text: text, label: "..."}'))
    sent = Path(recipe_source.send(recipe, (tmp_path / "store").as_uri()).removeprefix("file://"))
    names = {path.relative_to(sent.parent).as_posix() for path in sent.parent.rglob("*")}
    assert "data/train.jsonl" in names
    assert not {"demo", "demo/secret.env", "text"} & names


@pytest.mark.parametrize("name", ["eval#1.jsonl", "eval 10:00.jsonl", "eval*.jsonl", "a:b"])
def test_a_data_file_may_have_any_name(there: Path, here: Path, tmp_path: Path, name: str) -> None:
    (there / name).write_text("{}\n")
    recipe = there / "demo.yaml"
    recipe.write_text(RECIPE.replace("data/eval.jsonl", f'"{name}"'))
    source = recipe_source.send(recipe, (tmp_path / "store").as_uri())
    sent = recipe_source.fetch(source, here).parent
    assert files(sent) == NEEDED - {"data/eval.jsonl"} | {name}


def test_a_prompt_that_begins_with_dots_is_no_path(there: Path, tmp_path: Path) -> None:
    recipe = there / "demo.yaml"
    recipe.write_text(RECIPE.replace('"a sentence, with\\nlines"', '"...and more"'))
    assert recipe_source.send(recipe, (tmp_path / "store").as_uri())


@pytest.mark.parametrize("port", ["", ":2222"])
def test_the_user_of_ssh_is_no_secret(port: str) -> None:
    text = f"ssh://git@example.org{port}/org/models.git@main:demo.yaml"
    assert InGit.parse(text).repository == f"ssh://git@example.org{port}/org/models.git"
    with pytest.raises(RecipeError, match="credentials"):
        InGit.parse("ssh://git:secret@example.org/org/models.git@main:demo.yaml")


def test_words_of_our_stages_are_no_paths_and_those_of_others_may_be(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("finetune", "small", "times.csv", "goal.json", "mine.py"):
        (there / name).write_text("")
    point = EntryPoint("theirs", "package.stage:Theirs", "rarefy.stages")
    installed = recipe_source.discovery.installed() | {"theirs": point}
    monkeypatch.setattr(recipe_source.discovery, "installed", lambda: installed)
    (there / "demo.yaml").write_text(
        """
name: demo
model: models/encoder
data: {train: data/train.jsonl}
stages:
  - {distill: {teacher: finetune, student: small}, from: model}
  - validate: {models: [finetune]}
  - theirs: {table: times.csv}
  - mine:Stage: {target: goal.json}
"""
    )
    source = recipe_source.send(there / "demo.yaml", (tmp_path / "store").as_uri())
    sent = files(Path(source.removeprefix("file://")).parent)
    assert {"small", "times.csv", "mine.py", "goal.json"} <= sent
    assert "finetune" not in sent
