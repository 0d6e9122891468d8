"""The store on the command line: list, verify, tag and delete artifacts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rarefy.flows.commands import artifact
from rarefy.pipeline.store.artifact import Artifact, Kind, Manifest, Metric, Parent, StageRecord
from rarefy.pipeline.store.store import Store
from tests.desk import Desk
from tests.pipeline.store.artifacts import make_newer
from tests.project import Project, Said, bundle_digest


@dataclass(frozen=True)
class Stored:
    """A store after a run: its artifacts by stage, and the command line."""

    rarefy: Callable[..., Said]
    digests: dict[str, str]
    home: Path

    def json(self, *arguments: str) -> Any:
        return json.loads(self.rarefy("artifact", *arguments, "--json").out)

    def directory(self, stage: str) -> Path:
        return self.home / "store" / "artifacts" / "sha256" / self.digests[stage]


@pytest.fixture
def stored(trained_project: Project, rarefy: Callable[..., Said]) -> Stored:
    recipe = trained_project.recipe("quickstages:Head", "quickstages:Judge")
    assert rarefy("run", recipe, "--engine", "inline").code == 0
    rows = json.loads(rarefy("artifact", "ls", "--json").out)
    return Stored(rarefy, {row["stage"]: row["digest"] for row in rows}, trained_project.home)


def test_list_shows_kind_stage_and_tags(stored: Stored) -> None:
    stored.rarefy("artifact", "tag", "production", stored.digests["head"][:8])
    rows = {row["stage"]: row for row in stored.json("ls")}
    assert {stage: row["kind"] for stage, row in rows.items()} == {
        "import": "encoder",
        "head": "checkpoint",
        "judge": "report",
    }
    assert rows["head"]["tags"] == ["production"]
    assert rows["head"]["size"] > 1000
    assert [row["stage"] for row in stored.json("ls", "--kind", "report")] == ["judge"]


def test_show_tells_the_lineage(stored: Stored) -> None:
    shown = stored.json("show", stored.digests["judge"])
    assert [(row["stage"], row["role"]) for row in shown["lineage"]] == [
        ("head", "input"),
        ("import", "input"),
    ]
    assert shown["manifest"]["stage"]["name"] == "judge"
    assert "started" in shown["run"]
    told = stored.rarefy("artifact", "show", stored.digests["head"])
    assert "parameter    scale: 1.0" in told.out


def test_verify_finds_one_changed_byte(stored: Stored) -> None:
    assert stored.rarefy("artifact", "verify", "--all").code == 0
    weights = stored.directory("head") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    said = stored.rarefy("artifact", "verify", "--all")
    assert said.code == 6
    assert f"{stored.digests['head'][:12]} model.safetensors: " in said.out
    assert stored.rarefy("artifact", "verify", stored.digests["import"]).code == 0
    assert stored.rarefy("artifact", "gc", "--damaged", "--yes").code == 0
    assert stored.rarefy("artifact", "verify", "--all").code == 0
    assert "head" not in [row["stage"] for row in stored.json("ls")]


def test_verify_goes_on_past_what_another_process_deletes_meanwhile(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = Store(stored.home / "store").digests()
    monkeypatch.setattr(Store, "digests", lambda _: ["0" * 64, *digests])
    assert [row["digest"] for row in stored.json("verify", "--all")] == digests


def test_a_tag_whose_artifact_is_gone_is_said_to_be_that(stored: Stored) -> None:
    stored.rarefy("artifact", "tag", "shelf", stored.digests["head"][:8])
    shutil.rmtree(stored.directory("head"))
    for words in (("artifact", "show", "shelf"), ("predict", "shelf", "a text")):
        said = stored.rarefy(*words)
        assert said.code == 2
        assert "the tag 'shelf' points at" in " ".join(said.err.split())


def test_list_goes_on_past_a_damaged_artifact(stored: Stored) -> None:
    shutil.rmtree(stored.directory("head"))
    stored.directory("head").mkdir()
    assert sorted(row["kind"] for row in stored.json("ls")) == ["damaged", "encoder", "report"]


def test_an_artifact_of_a_newer_version_is_said_and_kept(stored: Stored) -> None:
    head = stored.directory("head")
    make_newer(head)
    said = stored.rarefy("artifact", "verify", "--all")
    assert said.code == 6
    assert "made by a newer version of rarefy (manifest schema 2); upgrade rarefy" in said.out
    assert "gc --damaged" not in said.err
    assert "newer" in {row["kind"] for row in stored.json("ls")}
    for options in (["--days", "0"], ["--damaged"]):
        assert stored.rarefy("artifact", "gc", *options, "--yes").code == 0
    assert head.is_dir()


def test_gc_keeps_what_a_tag_reaches(stored: Stored) -> None:
    stored.rarefy("artifact", "tag", "keep", stored.digests["head"])
    dry = stored.json("gc", "--days", "0")
    assert [Path(row["path"]).name for row in dry["garbage"]] == [stored.digests["judge"]]
    assert stored.directory("judge").exists(), "without --yes nothing goes"
    assert stored.json("gc", "--days", "0", "--yes")["deleted"]
    assert not stored.directory("judge").exists()
    assert stored.directory("import").exists(), "what the tagged one was made from stays"


def test_a_tag_is_taken_away(stored: Stored) -> None:
    stored.rarefy("artifact", "tag", "old", stored.digests["head"])
    assert stored.rarefy("artifact", "tag", "old", "--delete").code == 0
    assert stored.rarefy("artifact", "show", "old").code == 2
    assert stored.rarefy("artifact", "tag", "old", "--delete").code == 2


def report(*references: str) -> Artifact:
    """A report with an input and these references, and an accuracy that may be 0."""
    roles = [("0" * 64, "input"), *((digest, "reference") for digest in references)]
    manifest = Manifest(
        kind=Kind.REPORT,
        files=(),
        parents=tuple(Parent(digest=digest, role=role) for digest, role in roles),
        stage=StageRecord(name="validate", version=1, parameters={}, fingerprint="f"),
        metrics=(Metric(name="accuracy", value=0.1, low=0.0, high=0.25),),
    )
    return Artifact(Path("report"), manifest, manifest.digest)


def test_an_interval_that_begins_at_0_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    artifact.show_artifact(report(), [], [])
    assert "metric       accuracy: 0.1 [0, 0.25]" in capsys.readouterr().out


def test_push_and_pull_from_the_command_line(desk: Desk, tmp_path: Path) -> None:
    url, home = f"file://{tmp_path}/shared", tmp_path / "elsewhere"
    pushed = desk.rarefy("artifact", "push", desk.digest[:8], url, "--tag", "production", "--json")
    sent = json.loads(pushed.out)
    assert (sent["digest"], sent["tag"]) == (desk.digest, "production")
    again = json.loads(desk.rarefy("artifact", "push", desk.digest, url, "--json").out)
    assert (sent["bytes"] > 10_000, again["bytes"]) == (True, 0)
    text = "a fine film"
    here = desk.rarefy("predict", desk.digest, text).out
    there = desk.rarefy("predict", f"{url}#production", text, "--home", home)
    assert (there.code, there.out) == (0, here)
    address = f"{url}#{desk.digest[:8]}"
    pulled = desk.rarefy("artifact", "pull", address, "--tag", "production", "--home", home)
    assert pulled.out == f"{desk.digest} (bundle), production\n"
    assert Store(home / "store").tags() == {"production": desk.digest}
    for arguments, words in {
        ("pull", url): "expected URL#TAG",
        ("pull", f"{url}#nosuch"): "no tag 'nosuch'",
        ("push", "nosuch", url): "no such artifact or tag",
        ("push", desk.digest, f"{url}#production"): f"URL without a tag, e.g. {url};",
        ("push", desk.digest, f"file://{tmp_path}/not/there"): "no such bucket or folder",
    }.items():
        said = desk.rarefy("artifact", *arguments)
        assert said.code == 2
        assert words in said.err


def test_the_name_of_a_run_shows_its_bundle(here: Project, rarefy: Callable[..., Said]) -> None:
    shown = rarefy("artifact", "show", "tiny", "--json")
    assert shown.code == 0, shown.err
    assert shown.json["digest"] == bundle_digest(here)
