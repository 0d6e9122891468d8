"""``rarefy ci`` writes every file that a CI system reads, and never an empty page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from rarefy.pipeline.release.origin import recipe_of
from rarefy.pipeline.store.home import Home
from tests.project import Project, Said, make_project

Rarefy = Callable[..., Said]

KEPT = """\
targets:
  - {name: one, threads: 1}
  - {name: two, threads: 2}
budgets:
  - {metric: accuracy, min: 1 %}
  - {metric: latency_p50, max: 10 s}
  - {metric: latency_p50, min_speedup: 0.0001x, against: head, target: two}
  - {metric: accuracy, max_drop: 99 points, against: head}
  - {metric: size, max_regression: 900 %, against: head}
"""
UNDECIDED = "  - {metric: accuracy, min: 85 %}\n"
BUDGETS = f"""\
{KEPT}{UNDECIDED}\
  - {{metric: accuracy, min: 84 %, level: warn}}
  - {{metric: size, max: 1 kB, level: warn}}
  - {{metric: memory, max: 1 GB}}
  - metric: accuracy
    min: 99.9 %
"""
EASY = "budgets: [{metric: accuracy, min: 1 %}]\n"
HARD = "budgets: [{metric: accuracy, max: 1 %}]\n"
MEASURE = (
    "validate: {processes: 2, seconds: 1, rows: 20, memory: false, cold_starts: 0, "
    "fastest_float: false}"
)
STATES = {
    "accuracy min": "pass",
    "latency_p50 max on one": "pass",
    "latency_p50 max on two": "pass",
    "latency_p50 min_speedup against head on two": "pass",
    "accuracy max_drop against head": "pass",
    "size max_regression against head": "pass",
    "accuracy min #2": "inconclusive",
    "accuracy min (warn)": "skipped",
    "size max (warn)": "skipped",
    "memory max": "fail",
    "accuracy min #3": "fail",
}
OUTPUTS = {
    "verdict.json", "summary.md", "report.html", "run.json", "junit.xml", "answers.safetensors",
    "disagreements.csv", "bundle",
}  # fmt: skip


@pytest.fixture
def project(trained_project: Project) -> Project:
    """Its model is trained already: what is judged here is what comes after."""
    return trained_project


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One project for all tests that export and measure, so the export is made once."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("shop"), patch)
        path = project.folder / "eval.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows[:3]:  # what nobody can have right: 85 % at best
            row["label"] = "negative" if row["label"] == "positive" else "positive"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        yield project


@pytest.fixture
def on_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that GitHub gives to a step."""
    folder = tmp_path / "github"
    folder.mkdir()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.setenv(name, str(folder / name))
    return folder


def annotations(said: Said) -> list[str]:
    return [line for line in said.err.splitlines() if line.startswith("::")]


def outcome(case: object) -> str:
    kinds = {type(found) for found in case.result}  # type: ignore[attr-defined]
    if Failure in kinds:
        return next(found.type for found in case.result)  # type: ignore[attr-defined]
    return "error" if Error in kinds else "skipped" if Skipped in kinds else "pass"


@pytest.mark.slow
def test_ten_budgets_in_every_state(
    shop: Project,
    rarefy: Rarefy,
    on_github: Path,
    known_times: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real export, judged on two targets and twice: strictly and leniently."""
    monkeypatch.setenv("GITHUB_WORKSPACE", str(shop.folder))
    recipe = shop.recipe("quickstages:Head", "export", MEASURE, budgets=BUDGETS)
    out = shop.folder / "out"
    arguments = ("ci", recipe, "--out", out, "--engine", "inline", "--threads", "1")

    said = rarefy(*arguments)
    assert said.code == 3
    assert said.out == "verdict: fail\n"
    assert {path.name for path in out.iterdir()} == OUTPUTS
    suite = next(iter(JUnitXml.fromfile(str(out / "junit.xml"))))
    assert {case.name: outcome(case) for case in suite} == STATES
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (11, 3, 0, 2)
    verdict = json.loads((out / "verdict.json").read_text())
    assert len(verdict["budgets"]) == 11

    lines = recipe.read_text().splitlines()
    shown = annotations(said)
    assert [one.split(" ")[0] for one in shown] == ["::error"] * 3 + ["::warning"] * 2
    at = next(one for one in shown if "99.9%25 is required" in one).split("line=")[1].split(",")[0]
    assert lines[int(at) - 1 : int(at) + 1] == ["  - metric: accuracy", "    min: 99.9 %"]
    assert all(one.split("file=")[1].startswith("tiny.yaml,") for one in shown)
    assert (on_github / "GITHUB_STEP_SUMMARY").read_text() == (out / "summary.md").read_text()
    said_of = (on_github / "GITHUB_OUTPUT").read_text()
    assert "fail" in said_of.splitlines()
    assert str(out / "report.html") in said_of.splitlines()

    undecided = shop.recipe("quickstages:Head", "export", MEASURE, budgets=KEPT + UNDECIDED)
    strict = rarefy("ci", undecided, *arguments[2:])
    assert strict.code == 4
    assert "note: with --lenient" in strict.err
    lenient = rarefy("ci", undecided, *arguments[2:], "--lenient", "--json")
    assert lenient.code == 0
    assert json.loads(lenient.out)["outcome"] == "inconclusive"
    assert [one.split(" ")[0] for one in annotations(lenient)] == ["::warning"]
    suite = next(iter(JUnitXml.fromfile(str(out / "junit.xml"))))
    assert [outcome(case) for case in suite] == ["pass"] * 6 + ["skipped"]


def test_latency_as_a_warning_is_named_and_no_pass(
    project: Project, rarefy: Rarefy, on_github: Path
) -> None:
    """The stand-in for `validate` times nothing, so no budget on times can be judged."""
    latency = "  - {metric: latency_p50, max: 1 ms}\n"
    budgets = f"budgets:\n  - {{metric: accuracy, min: 1 %}}\n{latency}"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budgets)
    out = project.folder / "out"
    arguments = ("--out", out, "--engine", "inline", "--threads", "1")
    assert rarefy("ci", recipe, *arguments).code == 3
    said = rarefy("ci", recipe, *arguments, "--latency", "warn")
    assert (said.code, said.out) == (0, "verdict: pass (warning: not met: latency_p50 max)\n")
    assert [one.split(" ")[0] for one in annotations(said)] == ["::warning"]
    suite = next(iter(JUnitXml.fromfile(str(out / "junit.xml"))))
    assert [outcome(case) for case in suite] == ["pass", "skipped"]
    summary = (out / "summary.md").read_text()
    assert "1 of 2 budgets met; 1 missed (a warning only)." in summary
    assert "To judge it, run on a quiet machine, one job at a time" in summary
    assert "--latency warn" in json.loads((out / "run.json").read_text())["command"]
    assert rarefy("runs", "resume", "tiny").code == 0, "a run that is resumed is as lenient"

    alone = project.recipe("quickstages:Head", "quickstages:Judge", budgets=f"budgets:\n{latency}")
    refused = rarefy("ci", alone, *arguments, "--latency", "warn")
    assert refused.code == 2
    assert "this gate would let everything pass" in refused.err


def test_a_run_that_dies_leaves_a_page_that_says_why(
    project: Project, rarefy: Rarefy, on_github: Path
) -> None:
    """The page is neither empty nor that of the previous run."""
    out = project.folder / "out"
    good = project.recipe("quickstages:Head", "quickstages:Judge", name="good", budgets=EASY)
    assert rarefy("ci", good, "--out", out, "--engine", "inline").code == 0
    bad = project.recipe(
        "quickstages:Head", "quickstages:Break", "quickstages:Judge", name="bad", budgets=EASY
    )

    said = rarefy("ci", bad, "--out", out, "--engine", "inline")
    assert said.code == 2
    reason = "break: the weights are made of cheese"
    assert {path.name for path in out.iterdir()} == {"junit.xml", "summary.md"}
    suite = next(iter(JUnitXml.fromfile(str(out / "junit.xml"))))
    assert (suite.tests, suite.errors) == (1, 1)
    assert next(iter(suite)).result[0].message == reason
    assert reason in (out / "summary.md").read_text()
    assert (
        (on_github / "GITHUB_STEP_SUMMARY").read_text().endswith((out / "summary.md").read_text())
    )
    assert annotations(said) == [f"::error file=bad.yaml,title=bad%3A no verdict::{reason}"]
    assert "error" in (on_github / "GITHUB_OUTPUT").read_text().splitlines()


def test_a_reader_who_has_gone_takes_nothing_of_a_run_that_has_ended(
    project: Project, rarefy: Rarefy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("rarefy.flows.commands.ci.show_json", gone)
    out = project.folder / "out"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=EASY)
    said = rarefy("ci", recipe, "--out", out, "--engine", "inline", "--json")
    assert said.code != 0
    assert json.loads((out / "verdict.json").read_text())["outcome"] == "pass"
    assert [outcome(case) for case in next(iter(JUnitXml.fromfile(str(out / "junit.xml"))))] == [
        "pass"
    ]


def test_a_recipe_that_cannot_be_read_is_annotated_at_its_line(
    project: Project, rarefy: Rarefy, on_github: Path
) -> None:
    recipe = project.recipe("quickstages:Head", budgets="budgts: []\n")
    said = rarefy("ci", recipe, "--out", project.folder / "out")
    assert said.code == 2
    line = recipe.read_text().splitlines().index("budgts: []") + 1
    assert annotations(said)[0].startswith(f"::error file=tiny.yaml,line={line},title=")
    assert "did you mean 'budgets'?" in (project.folder / "out" / "junit.xml").read_text()


def test_nothing_of_github_is_said_elsewhere(project: Project, rarefy: Rarefy) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=HARD)
    said = rarefy("ci", recipe, "--out", project.folder / "out", "--engine", "inline")
    assert said.code == 3
    assert annotations(said) == []


def test_what_is_not_ours_in_the_folder_stays(project: Project, rarefy: Rarefy) -> None:
    theirs = project.folder / "out" / "bundle" / "theirs.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    bad = project.recipe("quickstages:Head", "quickstages:Break")
    rarefy("ci", bad, "--out", project.folder / "out", "--engine", "inline")
    assert theirs.read_text() == "mine"


@pytest.mark.parametrize("tag", ["head", "No Tag"])
def test_a_baseline_that_can_be_no_tag_is_refused(
    project: Project, rarefy: Rarefy, tag: str
) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    said = rarefy("ci", recipe, "--out", project.folder / "out", "--baseline", tag)
    assert said.code == 2
    assert f"baseline '{tag}'" in said.err


def test_a_missing_baseline_is_an_error_and_a_first_release_is_none(
    project: Project, rarefy: Rarefy
) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=EASY)
    arguments = ("ci", recipe, "--out", project.folder / "out", "--engine", "inline")
    missing = rarefy(*arguments, "--baseline", "production")
    assert missing.code == 2
    said = missing.err.splitlines()[-1]
    assert said.startswith("rarefy: --baseline production: no tag in "), "no line of the recipe"
    added = "accuracy max_drop 1 point, latency_p50 max_regression 5%, size max_regression 5%"
    assert added in missing.err
    first = rarefy(*arguments, "--baseline", "production", "--first")
    assert first.code == 0
    assert "the tag 'production' does not exist yet" in first.err


def test_a_gate_that_asks_nothing_is_refused(project: Project, rarefy: Rarefy) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    arguments = ("ci", recipe, "--out", project.folder / "out", "--engine", "inline")
    said = rarefy(*arguments)
    assert said.code == 2
    assert "has no budgets, so this gate would pass every model" in said.err
    suite = next(iter(JUnitXml.fromfile(str(project.folder / "out" / "junit.xml"))))
    assert suite.errors == 1
    # A recipe may have no budgets; then there is no verdict, and none in the history.
    said = rarefy("run", recipe, "--engine", "inline", "--json")
    assert (said.code, json.loads(said.out)["outcome"]) == (0, None)
    assert json.loads(rarefy("history", "--json").out) == []
    # A first release has a verdict on the budgets that can be judged, even if there are none.
    said = rarefy(*arguments, "--baseline", "production", "--first")
    first = "first release: nothing was compared with production, which does not exist yet"
    assert (said.code, said.out) == (0, f"verdict: pass ({first})\n")
    suite = next(iter(JUnitXml.fromfile(str(project.folder / "out" / "junit.xml"))))
    assert [type(result) for case in suite for result in case.result] == [Skipped]
    assert "first release" in (project.folder / "out" / "summary.md").read_text()


@pytest.mark.slow
def test_the_baseline_is_measured_beside_the_candidate(
    shop: Project, rarefy: Rarefy, known_times: None
) -> None:
    """The baseline is the same bundle under a tag, so its size cannot be worse."""
    out = shop.folder / "out"
    options = ("--out", out, "--engine", "inline", "--threads", "1")
    made = shop.recipe("quickstages:Head", "export", name="made")
    assert rarefy("run", made, *options).code == 0
    digest = json.loads((out / "run.json").read_text())["ledger"][2]["digest"]
    assert rarefy("artifact", "tag", "production", digest).code == 0

    recipe = shop.recipe(
        "quickstages:Head",
        "export",
        MEASURE,
        budgets="budgets: {metric: size, max_regression: 1 %, against: an-older-one}\n",
    )
    said = rarefy("ci", recipe, *options, "--baseline", "production", "--json")
    assert said.code == 0
    (budget,) = json.loads(said.out)["budgets"]
    assert (budget["against"], budget["value"]) == ("production", 0)
    models = json.loads((out / "run.json").read_text())["measurements"]["models"]
    assert models["production"]["digest"] == digest


def test_a_run_that_is_ended_from_outside_leaves_a_page_too(
    project: Project, rarefy: Rarefy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rarefy.flows.run.job.run_inline", interrupted)
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=EASY)
    said = rarefy("ci", recipe, "--out", project.folder / "out", "--engine", "inline")
    assert said.code == 130
    suite = next(iter(JUnitXml.fromfile(str(project.folder / "out" / "junit.xml"))))
    assert (suite.tests, suite.errors) == (1, 1)


def everything_said(said: Said, *folders: Path) -> str:
    """Return all output and the content of all files, also those of a database."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    texts = [path.read_bytes().decode("latin1") for path in files]
    return "\n".join([said.out, said.err, *texts])


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA123:hush@bucket/store",
        "s3://AKIA123:hush/hush+=@bucket/store",
        "https://hush@host.example/store",
        "https://user:hush@host.example/store",
        "simplecache::s3://AKIA123:hush@bucket/store",
        "https://bucket.example/store?X-Amz-Signature=hush&X-Amz-Expires=9",
        "https://account.example/store?sv=2022&sig=hush%3D",
        "https://host.example/store?access_token=hush",
    ],
)
def test_a_secret_in_a_url_is_refused_before_a_job_exists_and_never_said(
    project: Project, rarefy: Rarefy, on_github: Path, url: str
) -> None:
    """As a baseline, in the recipe's places, and as a remote; Prefect never starts."""
    out = project.folder / "out"
    stages, easy = ("quickstages:Head", "quickstages:Judge"), EASY
    against = f"budgets: [{{metric: accuracy, min: 1 %, against: '{url}#production'}}]\n"
    plain = project.recipe(*stages, budgets=easy, name="plain")
    budget = project.recipe(*stages, budgets=against, name="budget")
    data, model, stage = (project.folder / f"{name}.yaml" for name in ("data", "model", "stage"))
    data.write_text(plain.read_text().replace("eval.jsonl", f'"{url}"'))
    model.write_text(plain.read_text().replace("model: encoder", f'model: "{url}"'))
    stage.write_text(plain.read_text().replace("Head", f'Head: {{note: "{url}"}}'))
    for arguments in (
        ("ci", plain, "--out", out, "--baseline", f"{url}#production"),
        *(("ci", recipe, "--out", out) for recipe in (budget, data, model, stage)),
        ("plan", plain, "--baseline", f"{url}#production"),
        ("artifact", "push", "0" * 64, url, "--tag", "x", "superfluous", url),
        ("artifact", "pull", f"{url}#production"),
        ("rollback", f"{url}#production"),
        ("run", plain, "--out", url),
        ("run", plain, "--home", url),
        ("run", url),
    ):
        said = rarefy(*arguments)
        assert said.code == 2, said.err
        assert "hush" not in everything_said(said, out, on_github, project.home)
    assert "credentials" in (out / "junit.xml").read_text()
    assert not (project.home / "prefect").exists()


@pytest.mark.slow
def test_what_a_library_says_about_a_signed_url_is_redacted_everywhere(
    project: Project,
    rarefy: Rarefy,
    on_github: Path,
    prefect_home: Callable[[Path], object],
) -> None:
    prefect_home(project.home / "prefect")
    stages = project.folder / "modules" / "quickstages.py"
    error = 'OSError("GET https://bucket.example/x?X-Amz-Signature=hush: 403")'
    stages.write_text(
        stages.read_text().replace('ModelError("the weights are made of cheese")', error)
    )
    recipe = project.recipe(
        "quickstages:Head", "quickstages:Break", "quickstages:Judge", budgets=EASY
    )
    out = project.folder / "out"
    said = rarefy("-v", "ci", recipe, "--out", out)
    assert said.code == 1
    assert "GET https://bucket.example/x?X-Amz-Signature=***: 403" in said.err
    assert "X-Amz-Signature=***: 403" in (out / "junit.xml").read_text()
    written = everything_said(said, out, on_github, project.home)
    assert "X-Amz-Signature" in written
    assert "hush" not in written


def test_the_command_is_recorded_with_what_the_result_depends_on(
    project: Project, rarefy: Rarefy
) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=EASY)
    where = ("--engine", "inline", "--threads", "1", "--device", "cpu")
    assert rarefy("ci", recipe, "--out", project.folder / "out", *where).code == 0
    told = json.loads((project.folder / "out" / "run.json").read_text())["command"]
    assert told == f"rarefy ci {recipe} --out {project.folder / 'out'} --device cpu --threads 1"
    assert recipe_of(str(project.folder / "out"), None, Home(project.home)).path == recipe
