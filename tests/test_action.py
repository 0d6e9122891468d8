"""The scripts of the GitHub action, run as the runner runs them, with commands that only record."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
REST = {"LATENCY": "warn", "ARGS": ""}


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
        cwd=folder, env={"PATH": path, "GITHUB_OUTPUT": str(folder / "output"), **inputs},
        check=False, capture_output=True,
    )  # fmt: skip
    called = folder / "called"
    calls = called.read_text().split("\1")[:-1] if called.exists() else []
    return done.returncode, [call.split("\0")[:-1] for call in calls]


def test_the_action_passes_its_inputs_on_as_they_are(tmp_path: Path) -> None:
    inputs = {"RECIPE": "my recipe.yaml", "OUT": "out; touch a", "BASELINE": "$(touch b)#`touch c`"}
    code, calls = run_step("Run the gate", tmp_path, **inputs, LATENCY="strict", ARGS="--first")
    assert code == 0
    said = ["ci", "my recipe.yaml", "--out", "out; touch a", "--latency", "strict", "--first"]
    assert calls == [[*said, "--baseline", "$(touch b)#`touch c`"]]
    assert not {"a", "b", "c"} & {path.name for path in tmp_path.iterdir()}


def test_a_gate_that_ends_before_it_can_say_so_is_an_error(tmp_path: Path) -> None:
    code, _ = run_step("Run the gate", tmp_path, ends=2, RECIPE="a", OUT="o", BASELINE="", **REST)
    assert (code, (tmp_path / "output").read_text()) == (2, "outcome=error\n")


def test_the_action_runs_with_its_defaults(tmp_path: Path) -> None:
    given = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    inputs = {name.upper(): given[name].get("default", "a.yaml") for name in given}
    code, calls = run_step("Run the gate", tmp_path, **inputs)
    assert (code, calls) == (0, [["ci", "a.yaml", "--out", "rarefy-ci", "--latency", "warn"]])
    (tmp_path / "called").unlink()
    code, calls = run_step("Install rarefy", tmp_path, **inputs, GITHUB_ACTION_PATH="/here")
    assert (code, calls) == (0, [["-m", "pip", "install", "/here[cpu]"]])


def test_inputs_of_several_lines_are_read_whole(tmp_path: Path) -> None:
    inputs = {"RECIPE": "a.yaml", "OUT": "out", "BASELINE": "", "LATENCY": "warn"}
    code, calls = run_step("Run the gate", tmp_path, **inputs, ARGS="--fresh\n  --lenient\n")
    assert code == 0
    assert calls == [["ci", "a.yaml", "--out", "out", "--latency", "warn", "--fresh", "--lenient"]]
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
