"""Check what others build on (action, CI examples, hook, images) with its own linters.

All of them run without a network. What needs a service (GitHub, GitLab, Jenkins, a Docker daemon)
is not claimed here; docs/reference/support.md says what was run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import Workshop

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
WORKFLOWS = (
    "examples/ci/github.yml",
    ".github/workflows/ci.yml",
    ".github/workflows/release.yml",
    ".github/workflows/versions.yml",
)
FORMS = (".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/feature.yml")
DEPENDABOT = ".github/dependabot.yml"


def tool(name: str, *arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / name), *map(str, arguments)],
        **({"cwd": ROOT, "capture_output": True, "text": True, "check": False} | options),  # type: ignore[call-overload]
    )


def clean(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-actions", ["action.yml"]),
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.gitlab-ci", ["examples/ci/gitlab-ci.yml"]),
        ("vendor.dependabot", [DEPENDABOT]),
        ("vendor.github-issue-config", [".github/ISSUE_TEMPLATE/config.yml"]),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.citation-file-format", ["CITATION.cff"]),
    ],
)
def test_files_fit_the_schema_of_their_service(schema: str, files: list[str]) -> None:
    transform = ["--data-transform", "gitlab-ci"] if "gitlab" in schema else []
    clean(tool("check-jsonschema", "--builtin-schema", schema, *transform, *files))


@pytest.mark.parametrize(("kind", "count"), [("recipe", 3), ("sweep", 1)])
def test_examples_fit_the_schema_that_they_name(kind: str, count: int) -> None:
    files = sorted((ROOT / "examples").rglob("*.yaml"))
    named = f"/schema/{kind}.schema.json"
    files = [path for path in files if path.read_text().partition("\n")[0].endswith(named)]
    assert len(files) >= count
    clean(tool("check-jsonschema", "--schemafile", f"schema/{kind}.schema.json", *files))


def test_zizmor_finds_no_way_into_the_action_or_the_workflows() -> None:
    files = ("action.yml", DEPENDABOT, *WORKFLOWS)
    clean(tool("zizmor", "--offline", "--config", ".github/zizmor.yml", *files))


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.gpu"])
def test_hadolint_has_nothing_to_say_of_the_images(file: str) -> None:
    clean(tool("hadolint", file))


def test_the_image_for_workers_has_no_entrypoint(tmp_path: Path) -> None:
    """Prefect's workers give it a command; versions are pinned by whoever builds it."""
    page = (ROOT / "docs/how-to/schedules-and-workers.md").read_text()
    (shown,) = re.findall(r"^```dockerfile\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "Dockerfile").write_text(shown)
    clean(tool("hadolint", "--ignore", "DL3008", "--ignore", "DL3013", tmp_path / "Dockerfile"))
    assert shown.splitlines()[-1] == "ENTRYPOINT []"
    (home,) = re.findall(r"RAREFY_HOME: ([^},]+)", page)
    before, _, _ = shown.partition("USER 1000\n")
    assert f"install --directory --owner=1000 {home}\n" in before, "its user may write there"


def test_the_job_that_runs_a_change_s_code_has_no_key_that_can_write() -> None:
    jobs = yaml.safe_load((ROOT / "examples/ci/github.yml").read_text())["jobs"]
    checked_out = [
        name for name, job in jobs.items()
        if any(str(one.get("uses")).startswith("actions/checkout") for one in job["steps"])
    ]  # fmt: skip
    assert checked_out == ["gate"]
    assert "WRITE" not in yaml.safe_dump(jobs["gate"])
    assert (jobs["promote"]["environment"], jobs["promote"]["needs"]) == ("production", "gate")
    assert "github.ref == 'refs/heads/main'" in jobs["promote"]["if"]
    assert "--fresh" in yaml.safe_dump(jobs["gate"])


def test_our_own_workflow_has_what_tests_skip_without() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["steps"]
    installed, ours = (str(one["run"]) for one in steps if "run" in one)
    assert installed.startswith("sudo apt-get update && sudo apt-get install -y qemu-user")
    assert ours == ".ci/run"


def test_on_jenkins_nothing_of_the_gate_s_container_is_where_the_key_is_that_can_write() -> None:
    pipeline = (ROOT / "examples/ci/Jenkinsfile").read_text()
    before, gate, promote = re.split(r"stage\('\w+'\)", pipeline)
    assert "agent none" in before
    assert "write" not in gate
    assert '[ "$BRANCH_NAME" = main ]; then fresh=--fresh' in gate
    for stage in (gate, promote):
        assert len(re.findall(r"\bagent \{", stage)) == 1
    assert "skipDefaultCheckout()" in promote
    assert "branch 'main'" in promote


def test_the_examples_sweep_the_store_that_they_keep() -> None:
    gate = yaml.safe_load((ROOT / "examples/ci/gitlab-ci.yml").read_text())["gate"]
    assert gate["after_script"] == ["rarefy artifact gc --yes"]
    pipeline = (ROOT / "examples/ci/Jenkinsfile").read_text()
    always = pipeline.partition("always {")[2].partition("stage('Promote')")[0]
    assert "sh 'rarefy artifact gc --yes || " in always, "whatever it ends with, the verdict stays"


def test_the_examples_name_commands_and_options_that_there_are() -> None:
    """The command line accepts every ``rarefy`` line of the examples and of the page."""
    from click.testing import CliRunner

    from rarefy.flows.cli import cli

    files = [*(ROOT / "examples/ci").iterdir(), ROOT / "docs/how-to/github.md"]
    text = "\n".join(path.read_text() for path in files)
    said = {part.split()[1] for line in text.splitlines() for part in commands(line)}
    assert {"ci", "promote", "recipe"} <= said
    for name in said:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name
    options = {
        word for line in text.splitlines() for part in commands(line) for word in part.split()
    }
    known = "".join(CliRunner().invoke(cli, [name, "--help"]).output for name in said)
    for option in sorted(word.strip("`'\",.)") for word in options if word.startswith("--")):
        assert option in known, option


def commands(line: str) -> list[str]:
    """Return the arguments of ``rarefy`` in a line that runs it."""
    found = [f"rarefy {part}" for part in line.split("rarefy ")[1:]] if "rarefy " in line else []
    starts = ("ci ", "promote ", "recipe ", "rollback ", "plan ", "run ", "report ", "history ")
    return [part for part in found if part.removeprefix("rarefy ").startswith(starts)]


# The pre-commit hook


def test_our_own_hook_checks_every_recipe_of_the_examples_and_nothing_else() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (pattern,) = [hook["files"] for hook in config["repos"][0]["hooks"] if hook["id"] == "recipes"]
    for path in (ROOT / "examples").rglob("*.yaml"):
        name = path.relative_to(ROOT).as_posix()
        is_recipe = "stages" in yaml.safe_load(path.read_text())
        assert (re.search(pattern, name) is not None) is is_recipe, name


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_hook_checks_recipes_in_another_repository(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Run pre-commit itself, with this environment's rarefy because a new one needs a network."""
    clean(tool("pre-commit", "validate-manifest", ".pre-commit-hooks.yaml"))
    folder = tmp_path_factory.mktemp("hook")
    ours, theirs = repository(folder / "ours"), repository(folder / "theirs")
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", ours)
    git(ours, "add", "-A")
    git(ours, "commit", "--quiet", "-m", "hooks")
    git(ours, "tag", "v1")
    hook = {"id": "rarefy-recipe-check", "language": "system"}
    config = {"repos": [{"repo": str(ours), "rev": "v1", "hooks": [hook]}]}
    (theirs / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    (theirs / "other.yaml").write_text("not: a recipe\n")
    budget = {"metric": "accuracy", "max_drop": "1 point", "against": "production"}
    recipe = theirs / "recipes" / workshop.recipe("quick:Word", budgets=[budget]).name
    shutil.copytree(workshop.folder, recipe.parent)
    git(theirs, "add", "-A")

    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PRE_COMMIT_HOME": str(folder / "cache")}
    # The recipe is valid even if the production bundle is not on this machine.
    clean(tool("pre-commit", "run", "--all-files", cwd=theirs, env=env))
    recipe.write_text(recipe.read_text().replace("model:", "modell:"))
    refused = tool("pre-commit", "run", "--all-files", cwd=theirs, env=env)
    assert refused.returncode == 1
    assert "recipes/trial.yaml:2: modell: unknown key, did you mean 'model'?" in refused.stdout
