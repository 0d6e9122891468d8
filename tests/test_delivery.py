"""Check what others build on (action, CI examples, hook, images) with its own linters.

All of them run without a network. What needs a service (GitHub, GitLab, Jenkins, a Docker daemon)
is not claimed here; docs/ci.md says what was run by hand.
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
WORKFLOWS = ("examples/ci/github.yml", ".github/workflows/ci.yml")


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
    clean(tool("zizmor", "--offline", "--config", ".github/zizmor.yml", "action.yml", *WORKFLOWS))


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.gpu"])
def test_hadolint_has_nothing_to_say_of_the_images(file: str) -> None:
    clean(tool("hadolint", file))


def test_the_image_for_workers_has_no_entrypoint(tmp_path: Path) -> None:
    """Prefect's workers give it a command; versions are pinned by whoever builds it."""
    page = (ROOT / "docs/operations.md").read_text()
    (shown,) = re.findall(r"^```dockerfile\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "Dockerfile").write_text(shown)
    clean(tool("hadolint", "--ignore", "DL3008", "--ignore", "DL3013", tmp_path / "Dockerfile"))
    assert shown.splitlines()[-1] == "ENTRYPOINT []"
    (home,) = re.findall(r"RAREFY_HOME: ([^},]+)", page)
    before, _, _ = shown.partition("USER 1000\n")
    assert f"install --directory --owner=1000 {home}\n" in before, "its user may write there"


# The action's scripts


def step(name: str) -> str:
    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    return next(str(one["run"]) for one in steps if one.get("name") == name)


def run_step(
    name: str, folder: Path, *, ends: int = 0, **inputs: str
) -> tuple[int, list[list[str]]]:
    """Run a step's script as the runner does, with commands that record their arguments."""
    note = 'printf "%s\\0" "$@" >> called\nprintf "\\1" >> called\n'
    for command in ("rarefy", "python"):
        path = folder / command
        path.write_text(f"#!/bin/sh\n{note}exit {ends}\n")
        path.chmod(0o755)
    script = folder / "script.sh"
    script.write_text(step(name))
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=folder, env={"PATH": path, **inputs}, check=False, capture_output=True,
    )  # fmt: skip
    called = folder / "called"
    calls = called.read_text().split("\1")[:-1] if called.exists() else []
    return done.returncode, [call.split("\0")[:-1] for call in calls]


def test_the_action_passes_its_inputs_on_as_they_are(tmp_path: Path) -> None:
    inputs = {"RECIPE": "my recipe.yaml", "OUT": "out; touch a", "BASELINE": "$(touch b)#`touch c`"}
    code, calls = run_step("Run the gate", tmp_path, **inputs, ARGS="--first --lenient")
    assert code == 0
    said = ["ci", "my recipe.yaml", "--out", "out; touch a", "--first", "--lenient"]
    assert calls == [[*said, "--baseline", "$(touch b)#`touch c`"]]
    assert not {"a", "b", "c"} & {path.name for path in tmp_path.iterdir()}


def test_the_action_runs_with_its_defaults(tmp_path: Path) -> None:
    given = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    inputs = {name.upper(): given[name].get("default", "a.yaml") for name in given}
    code, calls = run_step("Run the gate", tmp_path, **inputs)
    assert (code, calls) == (0, [["ci", "a.yaml", "--out", "rarefy-ci"]])
    (tmp_path / "called").unlink()
    code, calls = run_step("Install rarefy", tmp_path, **inputs, GITHUB_ACTION_PATH="/here")
    assert (code, calls) == (0, [["-m", "pip", "install", "/here[cpu]"]])


def test_inputs_of_several_lines_are_read_whole(tmp_path: Path) -> None:
    inputs = {"RECIPE": "a.yaml", "OUT": "out", "BASELINE": ""}
    code, calls = run_step("Run the gate", tmp_path, **inputs, ARGS="--fresh\n  --lenient\n")
    assert (code, calls) == (0, [["ci", "a.yaml", "--out", "out", "--fresh", "--lenient"]])
    (tmp_path / "called").unlink()
    inputs = {"EXTRA": "cpu", "GITHUB_ACTION_PATH": "/here"}
    code, calls = run_step("Install rarefy", tmp_path, **inputs, PACKAGES="s3fs\ngcsfs adlfs\n")
    assert calls == [["-m", "pip", "install", "/here[cpu]", "s3fs", "gcsfs", "adlfs"]]


def named(folder: Path, gate: str) -> list[str]:
    """Return what the step that names the cache says."""
    output = folder / "output"
    output.unlink(missing_ok=True)
    code, _ = run_step("Name the cache", folder, GATE=gate, GITHUB_OUTPUT=str(output))
    assert code == 0
    return output.read_text().splitlines()


def test_each_gate_has_a_cache_of_its_own(tmp_path: Path) -> None:
    """GitHub keeps the first of those with one key, and of a key it takes no commas."""
    first, restore = named(tmp_path, "ci gate 0 models/a.yaml ")
    assert (first, restore) == ("gate=ci-gate-0-models-a.yaml-", "restore=true")
    assert named(tmp_path, "ci gate 1 models/a.yaml ")[0] != first
    assert named(tmp_path, "a,b\nrestore=no $(touch c)")[0] == "gate=a-b-restore-no---touch-c-"
    (tmp_path / ".rarefy" / "store").mkdir(parents=True)
    assert named(tmp_path, "ci gate 0 models/a.yaml ") == [first], "an older one is not put over it"

    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    restored, saved = (one for one in steps if str(one.get("uses")).startswith("actions/cache/"))
    assert restored["if"] == "steps.cache.outputs.restore"
    key = saved["with"]["key"]
    assert (restored["with"]["key"], restored["with"]["path"]) == (key, saved["with"]["path"])
    prefix, gate, run = key.partition("${{ steps.cache.outputs.gate }}-")
    assert run == "${{ github.run_id }}-${{ github.run_attempt }}"
    assert restored["with"]["restore-keys"].split("\n")[:2] == [prefix + gate, prefix]


@pytest.mark.parametrize("ends", [0, 1])
def test_the_store_is_swept_before_it_is_cached(tmp_path: Path, ends: int) -> None:
    """If it cannot be, the verdict stays what it is."""
    said = [["artifact", "gc", "--yes", "--home", ".rarefy"]]
    assert run_step("Sweep the store", tmp_path, ends=ends) == (0, said)
    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    order = [str(one.get("name", one.get("uses"))) for one in steps]
    swept = order.index("Sweep the store")
    assert order.index("Run the gate") < swept
    assert order[swept + 1].startswith("actions/cache/save@")


GH = """#!/bin/sh
printf '%s\\0' "$@" >> called
printf '\\1' >> called
case "$*" in
  *--paginate*) [ ! -e refuse-list ] || exit 1; cat comments 2>/dev/null ;;
  *)
    [ ! -e refuse-write ] || exit 1
    for each in "$@"; do file="${each#body=@}"; done
    cp "$file" body ;;
esac
exit 0
"""
"""A ``gh`` that notes its arguments, lists the ids in ``comments`` and keeps what it posts."""

ORIGIN = "\n\nCommit 0abc, [run](https://h/me/mine/actions/runs/1)\n"


def comment(
    folder: Path, summary: str | None = "## ✓ Pass\n", **inputs: str
) -> tuple[int, str, str]:
    """Run the step that comments; return its code, what it prints, and the comment."""
    (folder / "gh").write_text(GH)
    (folder / "gh").chmod(0o755)
    (folder / "out").mkdir(exist_ok=True)
    if summary is not None:
        (folder / "out" / "summary.md").write_text(summary)
    script = folder / "script.sh"
    script.write_text(step("Comment on the pull request"))
    given = {"OUT": "out", "GATE": "ci gate a.yaml ", "REPOSITORY": "me/mine", "NUMBER": "7"}
    given |= {"COMMIT": "0abc", "RUN": "https://h/me/mine/actions/runs/1"}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=folder,
        env={"PATH": f"{folder}:{os.environ['PATH']}", **given, **inputs},
        check=False,
        capture_output=True,
        text=True,
    )
    body = folder / "body"
    return done.returncode, done.stdout, body.read_text() if body.exists() else ""


def asked(folder: Path) -> list[list[str]]:
    calls = (folder / "called").read_text().split("\1")[:-1]
    return [call.split("\0")[:-1] for call in calls]


def test_the_first_comment_is_posted_and_the_next_replaces_it(tmp_path: Path) -> None:
    code, _, body = comment(tmp_path)
    assert code == 0
    mark, _, rest = body.partition("\n")
    assert mark.startswith("<!-- rarefy ")
    assert rest == f"## ✓ Pass\n{ORIGIN}"
    listed, posted = asked(tmp_path)
    assert listed[2] == "repos/me/mine/issues/7/comments?per_page=100"
    assert mark in listed[-1]
    assert "github-actions[bot]" in listed[-1]
    assert posted[2:5] == ["--method", "POST", "repos/me/mine/issues/7/comments"]
    (tmp_path / "comments").write_text("41\n42\n")
    (tmp_path / "called").unlink()
    code, _, body = comment(tmp_path, "## ✗ Fail\n")
    assert (code, body) == (0, f"{mark}\n## ✗ Fail\n{ORIGIN}")
    assert asked(tmp_path)[1][2:5] == ["--method", "PATCH", "repos/me/mine/issues/comments/41"]
    other = comment(tmp_path, GATE="ci gate b.yaml ")[2]
    assert not other.startswith(mark)


@pytest.mark.parametrize("refused", ["refuse-list", "refuse-write"])
def test_a_comment_that_is_not_allowed_is_a_warning(tmp_path: Path, refused: str) -> None:
    (tmp_path / refused).touch()
    code, said, body = comment(tmp_path)
    assert (code, body) == (0, "")
    assert said.startswith("::warning::rarefy: the comment was not written")


def test_a_run_without_a_summary_comments_nothing(tmp_path: Path) -> None:
    code, said, body = comment(tmp_path, summary=None)
    assert (code, body) == (0, "")
    assert said.startswith("::notice::")


def test_a_run_without_a_summary_leaves_no_verdict_on_an_older_commit(tmp_path: Path) -> None:
    (tmp_path / "comments").write_text("41\n")
    code, said, body = comment(tmp_path, summary=None)
    assert (code, said) == (0, "")
    assert body.partition("\n")[2] == f"## No verdict\n{ORIGIN}"
    assert asked(tmp_path)[1][2:5] == ["--method", "PATCH", "repos/me/mine/issues/comments/41"]


def test_a_comment_notifies_nobody_and_runs_nothing(tmp_path: Path) -> None:
    code, _, body = comment(
        tmp_path, "@someone $(touch a) `touch b`\n", GATE='$(touch c)"; touch d'
    )
    assert code == 0
    assert body.endswith(f"\n@\u200bsomeone $(touch a) `touch b`\n{ORIGIN}")
    assert not {"a", "b", "c", "d"} & {path.name for path in tmp_path.iterdir()}


def test_a_long_summary_is_cut_between_characters(tmp_path: Path) -> None:
    code, _, body = comment(tmp_path, "é" * 100_000)
    assert code == 0
    assert 29_000 < len(body) < 65_536
    rest = "\n\n(The rest is cut off here; summary.md of the run has it.)\n"
    assert body.endswith(f"é{rest}{ORIGIN}")


def test_the_comment_is_off_unless_it_is_asked_for() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["inputs"]["comment"]["default"] == "false"
    (found,) = [one for one in action["runs"]["steps"] if one.get("name", "").startswith("Comment")]
    assert "inputs.comment == 'true'" in found["if"]


def test_the_action_knows_two_builds_of_onnxruntime(tmp_path: Path) -> None:
    inputs = {"EXTRA": "cpu] evil[x", "PACKAGES": "", "GITHUB_ACTION_PATH": "/here"}
    assert run_step("Install rarefy", tmp_path, **inputs) == (2, [])


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
    """The command line accepts every ``rarefy`` line of the examples and of docs/ci.md."""
    from click.testing import CliRunner

    from flows.cli import cli

    files = [*(ROOT / "examples/ci").iterdir(), ROOT / "docs/ci.md"]
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
    budget = {"metric": "accuracy", "max_drop": "1 %", "against": "production"}
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
