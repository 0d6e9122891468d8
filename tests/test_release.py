"""A release is built and checked as its workflow does it, without a network."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
import yaml

import rarefy

ROOT = Path(__file__).parents[1]
ADDRESS = "https://github.com/acme/rarefy"
FILES = f"{ADDRESS}/blob/v{rarefy.__version__}"


def release(*arguments: str | Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, root / ".ci/release.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "files"
    done = release(folder, "--repository", ADDRESS)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def texts(folder: Path) -> dict[str, str]:
    """Return the texts that a release publishes by their names, packages unpacked."""
    (wheel,), (sdist,) = folder.glob("dist/*.whl"), folder.glob("dist/*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(sdist) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        contents |= {member.name: archive.extractfile(member).read() for member in members}
    contents["notes.md"] = (folder / "notes.md").read_bytes()
    return {name: content.decode(errors="replace") for name, content in contents.items()}


@pytest.mark.slow
def test_a_release_leaves_packages_their_checksums_and_notes(released: Path) -> None:
    assert {path.name for path in released.iterdir()} == {"dist", "SHA256SUMS", "notes.md"}
    names = {path.name for path in (released / "dist").iterdir()}
    version = rarefy.__version__
    assert names == {f"rarefy-{version}-py3-none-any.whl", f"rarefy-{version}.tar.gz"}
    lines = (released / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    for name in names:
        assert sums.pop(name) == hashlib.sha256((released / "dist" / name).read_bytes()).hexdigest()
    assert sums == {}
    section = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    first = section.split("\n\n")[1]
    assert (released / "notes.md").read_text().startswith(first.split("(")[0])


@pytest.mark.slow
def test_no_placeholder_is_published_and_links_lead_to_the_tag(released: Path) -> None:
    published = texts(released)
    placeholder = "/".join(("OWNER", "rarefy"))  # as the examples have it
    assert [name for name, text in published.items() if placeholder in text] == []
    (metadata,) = (text for name, text in published.items() if name.endswith("info/METADATA"))
    headers = HeaderParser().parsestr(metadata)
    urls = dict(url.split(", ") for url in headers.get_all("Project-URL"))
    assert set(urls) == {"Source", "Documentation", "Changelog", "Issues"}
    assert urls["Changelog"] == f"{FILES}/CHANGELOG.md"
    assert (ROOT / urls["Documentation"].rpartition("/")[2]).is_dir()
    for text in (headers.get_payload(), published["notes.md"]):
        targets = [part.partition(")")[0] for part in text.split("](")[1:]]
        assert f"{FILES}/docs" in " ".join(targets)
        assert [to for to in targets if not to.startswith(("https://", "#"))] == []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (".ci/release.py", "CHANGELOG.md", "rarefy/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("heading", "tag", "error"),
    [
        ("0.1.0 — unreleased", "v0.1.0", "CHANGELOG.md has no date for 0.1.0, but 'unreleased'"),
        ("0.1.0 — 2027-01-31", "v0.1.1", "the tag is v0.1.1, and the package is 0.1.0"),
        (
            "0.2.0 — 2027-01-31",
            "v0.1.0",
            "CHANGELOG.md begins with 0.2.0, and the package is 0.1.0",
        ),
    ],
)
def test_a_tag_that_is_not_the_newest_section_is_refused(
    checkout: Path, heading: str, tag: str, error: str
) -> None:
    (checkout / "rarefy/__init__.py").write_text('__version__ = "0.1.0"\n')
    (checkout / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n\nThe first release.\n")
    done = release(checkout / "files", "--tag", tag, root=checkout)
    assert done.returncode == 1
    assert done.stderr == f"release: {error}\n"
    assert not (checkout / "files").exists()


def test_only_a_tested_tag_is_published_and_by_a_job_that_runs_no_code_of_ours() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    publish = jobs["publish"]
    assert publish["if"] == "github.ref_type == 'tag'"
    assert set(publish["needs"]) == {"test", "build"}
    assert publish["permissions"] == {"id-token": "write"}
    assert all("run" not in step for step in publish["steps"])
    others = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert others == ["publish"]
    (build,) = (step for step in jobs["build"]["steps"] if "release.py" in step.get("run", ""))
    assert '${TAG:+--tag "$TAG"}' in build["run"]
