"""Build the files of a release from this checkout, and check them.

    python .ci/release.py FOLDER [--tag v1.2.3] [--repository https://github.com/acme/rarefy]

leaves ``dist/`` with wheel and sdist, ``SHA256SUMS`` and ``notes.md``. With ``--tag``, the version
of the package and the newest section of CHANGELOG.md must be those of the tag, with a date.

``--repository`` becomes the package's links and the base of the README's, since a page on PyPI has
no files beside it. Whoever builds knows that address, so the source tree names none.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the files of a release and check them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag")
    parser.add_argument("--repository")
    options = parser.parse_args()
    version = read_version()
    dated, notes = read_changelog(version)
    if options.tag:
        check_tag(options.tag, version, dated)
    options.folder.mkdir(parents=True, exist_ok=True)
    if any(options.folder.iterdir()):
        sys.exit(f"release: {options.folder} is not empty")
    dist = options.folder / "dist"
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary)
        copy_checkout(source)
        if options.repository:
            files = f"{options.repository}/{{view}}/v{version}"
            add_addresses(source, options.repository, files)
            notes = with_absolute_links(notes, files)
        build(source, dist)
    (options.folder / "notes.md").write_text(notes)
    packages = sorted(dist.iterdir())
    python("-m", "twine", "check", "--strict", *packages)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in packages]
    (options.folder / "SHA256SUMS").write_text("".join(sums))
    links = options.repository or "none: no --repository"
    print(f"{version} in {options.folder}; dated {dated}; links to {links}")


def read_version() -> str:
    """Return the version that ``rarefy/__init__.py`` states, without importing it."""
    (version,) = re.findall(
        r'^__version__ = "(.+)"$', (ROOT / "rarefy/__init__.py").read_text(), re.M
    )
    return version


def read_changelog(version: str) -> tuple[str, str]:
    """Return date and text of the newest section, which must be that of this version."""
    _, newest, *_ = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    heading, _, text = newest.partition("\n")
    named, _, dated = heading.partition(" — ")
    if named != version:
        sys.exit(f"release: CHANGELOG.md begins with {named}, and the package is {version}")
    if not text.strip():
        sys.exit(f"release: CHANGELOG.md says nothing about {version}")
    return dated, text.strip() + "\n"


def check_tag(tag: str, version: str, dated: str) -> None:
    if tag != f"v{version}":
        sys.exit(f"release: the tag is {tag}, and the package is {version}")
    try:
        date.fromisoformat(dated)
    except ValueError:
        sys.exit(f"release: CHANGELOG.md has no date for {version}, but {dated!r}")


def copy_checkout(target: Path) -> None:
    """Copy what git tracks or would track: nothing that lies around gets into a package."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.exists() or path.is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / name, follow_symlinks=False)


def add_addresses(source: Path, repository: str, files: str) -> None:
    project = source / "pyproject.toml"
    urls = {
        "Source": repository,
        "Documentation": files.format(view="tree") + "/docs",
        "Changelog": files.format(view="blob") + "/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    project.write_text(f"{project.read_text()}\n[project.urls]\n{lines}")
    readme = source / "README.md"
    readme.write_text(with_absolute_links(readme.read_text(), files))


def with_absolute_links(text: str, files: str) -> str:
    """Return Markdown whose links and pictures lead to files of the tagged commit."""

    def lead(match: re.Match[str]) -> str:
        view = "raw" if match["picture"] else "blob"
        return f"{match['picture']}[{match['text']}]({files.format(view=view)}/{match['to']})"

    relative = r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!\w+:|#)(?P<to>[^)]+)\)"
    return re.sub(relative, lead, text)


def build(source: Path, dist: Path) -> None:
    """Build the sdist, and the wheel from what the sdist holds."""
    python("-m", "build", "--no-isolation", "--outdir", dist.absolute(), source)


def python(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"release: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
