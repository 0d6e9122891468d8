"""A recipe is fetched from where workers can read it, with the files that it names."""

from __future__ import annotations

import functools
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from flows import recipe_source
from flows.passing import may_pass
from flows.recipe_source import InGit
from pipeline.recipe import recipe as recipes
from pipeline.terms.errors import ProviderError, RecipeError

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


@pytest.fixture
def web(there: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(there))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_the_recipe_names_is_fetched_and_nothing_else(there: Path, here: Path) -> None:
    path = recipe_source.fetch(there.as_uri() + "/demo.yaml", here)
    assert path == here / "demo.yaml"
    assert files(here) == NEEDED
    assert recipes.load(path).recipe.name == "demo"


def test_a_web_server_with_listings_will_do(web: str, here: Path) -> None:
    recipe_source.fetch(f"{web}/demo.yaml", here)
    assert files(here) == NEEDED
    assert (here / "models/encoder/1_Pooling/config.json").read_text() == '{"pooling": 1}'


def test_a_path_of_this_machine_is_used_where_it_is(here: Path) -> None:
    assert not recipe_source.is_remote("recipes/demo.yaml")
    assert recipe_source.fetch("recipes/demo.yaml", here) == Path("recipes/demo.yaml")
    assert files(here) == set()


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
    recipe_source.fetch(source, here)
    assert files(here) == NEEDED
    assert (here / "data/train.jsonl").read_text() == "{}\n"


def test_hidden_files_of_a_folder_stay_where_they_are(
    there: Path, here: Path, tmp_path: Path
) -> None:
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
    recipe_source.fetch(there.as_uri() + "/demo.yaml", here)
    assert files(here) == wanted


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


def test_packages_that_a_stage_imports_are_sent_and_fetched(
    there: Path, packaged: set[str], here: Path, tmp_path: Path
) -> None:
    source = recipe_source.send(there / "demo.yaml", (tmp_path / "store").as_uri())
    assert files(Path(source.removeprefix("file://")).parent) == packaged
    recipe_source.fetch(there.as_uri() + "/demo.yaml", here)
    assert files(here) == packaged


def test_packages_are_fetched_from_a_web_server(web: str, packaged: set[str], here: Path) -> None:
    recipe_source.fetch(f"{web}/demo.yaml", here)
    assert files(here) == packaged


def test_a_stage_in_a_package_is_sent(there: Path, packaged: set[str], tmp_path: Path) -> None:
    (there / "demo.yaml").write_text(RECIPE.replace("own:Word", "helpers.util:Word"))
    source = recipe_source.send(there / "demo.yaml", (tmp_path / "store").as_uri())
    sent = files(Path(source.removeprefix("file://")).parent)
    assert {"helpers/__init__.py", "helpers/util.py", "helpers/deep/inner.py"} <= sent
    assert "helpers/unused.py" not in sent


def test_a_recipe_that_is_not_there(there: Path, web: str, here: Path) -> None:
    for place in (there.as_uri(), web):
        with pytest.raises(RecipeError, match=r"none\.yaml: no such recipe$"):
            recipe_source.fetch(f"{place}/none.yaml", here)


def test_a_file_outside_the_recipe_s_folder_is_refused(there: Path, here: Path) -> None:
    (there / "models" / "deep.yaml").write_text(RECIPE.replace("data/train", "../data/train"))
    with pytest.raises(RecipeError, match=r"names '\.\./data/train\.jsonl'.* use --git$"):
        recipe_source.fetch(there.as_uri() + "/models/deep.yaml", here)


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
    path = recipe_source.fetch(f"git+{repository}@{revision}:demo.yaml", here)
    assert recipes.load(path).recipe.name == name
    assert (here / "data" / "huge.jsonl").is_file(), "the repository is whole"


def test_a_recipe_in_git_at_a_commit(repository: str, there: Path, here: Path) -> None:
    shown = subprocess.run(
        ["git", "-C", str(there), "rev-parse", "next"], capture_output=True, text=True, check=True
    )
    path = recipe_source.fetch(f"git+{repository}@{shown.stdout.strip()[:12]}:demo.yaml", here)
    assert recipes.load(path).recipe.name == "next"


def test_what_is_not_in_git(repository: str, here: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no revision 'v9'"):
        recipe_source.fetch(f"git+{repository}@v9:demo.yaml", here)
    with pytest.raises(RecipeError, match=r"none\.yaml: no such recipe"):
        recipe_source.fetch(f"git+{repository}@main:none.yaml", _empty(tmp_path / "two"))
    with pytest.raises(RecipeError, match=r"git: fatal: .*therex"):
        recipe_source.fetch(f"git+{repository}x@main:demo.yaml", _empty(tmp_path / "three"))


def test_a_server_that_cannot_be_reached_is_tried_again(here: Path) -> None:
    with pytest.raises(ProviderError, match="git: ") as raised:
        recipe_source.fetch("git+http://127.0.0.1:9/models.git@main:demo.yaml", here)
    assert may_pass(raised.value)


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


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


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
    recipe_source.fetch(source, here)
    assert files(here) == NEEDED - {"data/eval.jsonl"} | {name}


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


def test_a_repository_that_refuses_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "fatal: unable to access 'https://x/': The requested URL returned error: 403"
    monkeypatch.setattr(recipe_source, "_run", lambda *_: (128, said))
    with pytest.raises(RecipeError, match="403") as refused:
        recipe_source._git("clone")
    assert not may_pass(refused.value)


def test_words_of_our_stages_are_no_paths_and_those_of_others_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = {"distill": {"teacher": "finetune", "student": "small"}, "from": "model"}
    validate = {"validate": {"models": ["finetune"]}}
    other = {"theirs": {"table": "times.csv"}}
    mine = {"mine:Stage": {"target": "goal.json"}}
    point = EntryPoint("theirs", "package.stage:Theirs", "rarefy.stages")
    known = recipe_source.discovery.installed() | {"theirs": point}
    monkeypatch.setattr(recipe_source.discovery, "installed", lambda: known)
    found = [*recipe_source._references({"stages": [ours, validate, other, mine]})]
    assert found == ["small", "times.csv", "mine:", "goal.json"]
