"""What is installed: one package, from a wheel that any checkout can build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import rarefy
from tests.models import LABELS, sentences, write_encoder

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "stages", "exporters", "flows")
RECIPE = """\
name: wheel
model: model
data: {train: train.csv, eval: eval.csv, text: text, label: label}
stages:
  - finetune: {epochs: 1, batch_size: 8}
  - quantize: {calibration_rows: 8}
  - export
  - validate: {models: [], processes: 2, seconds: 1, memory: false, cold_starts: 0}
targets: [{name: cpu, provider: cpu, threads: 1}]
"""


def test_every_package_and_what_its_modules_read_is_listed() -> None:
    """An editable install finds whole folders, and so hides what the list lacks."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for top in FOLDERS for path in (ROOT / top).rglob("*.py")}
    packages = {".".join(["rarefy", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert packages | {"rarefy", "rarefy.flows.recipes"} == set(tool["packages"])
    data = {
        path
        for top in FOLDERS
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".html", ".j2", ".css", ".txt")
    }
    listed = set[Path]()
    for package, patterns in tool["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            listed.update(folder.glob(pattern) if package.startswith("rarefy.") else [])
    assert data <= listed


def checkout_without_links(target: Path) -> None:
    """Copy the tracked files; a link becomes a text file, as git writes it on some systems."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, copy = ROOT / name, target / name
        if name.startswith(("tests/", "benchmarks/")) or not (
            source.exists() or source.is_symlink()
        ):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.write_text(str(source.readlink()))
        else:
            shutil.copyfile(source, copy)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist, built from a checkout whose links are text files."""
    folder = tmp_path_factory.mktemp("build")
    checkout_without_links(folder / "checkout")
    built = folder / "built"
    built.mkdir()
    for kind in ("sdist", "wheel"):
        code = (
            f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(built)],
            cwd=folder / "checkout",
            check=True,
            capture_output=True,
        )
    return built


@pytest.mark.slow
def test_the_wheel_holds_one_package(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"rarefy"}
    for name in ("__init__.py", "py.typed", "stages/prune/__init__.py", "flows/recipes/demo.yaml"):
        assert f"rarefy/{name}" in names
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pipeline/terms/errors.py", "stages/prune/stage.py", "pyproject.toml"} <= inside


@pytest.mark.slow
def test_an_installed_rarefy_runs_a_recipe_beside_packages_of_the_same_names(
    distributions: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (wheel,) = distributions.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(packages)
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    work = tmp_path / "work"
    work.mkdir()
    for name in FOLDERS:  # somebody's own folders, in the folder where the command is run
        (work / name).mkdir()
        (work / name / "__init__.py").write_text(f"MINE = {name!r}\n")
    write_encoder(work / "model", layers=1, hidden=16)
    for split, count in (("train", 32), ("eval", 16)):
        texts, labels = sentences(count, seed=count)
        rows = [f'"{text}",{LABELS[label]}' for text, label in zip(texts, labels, strict=True)]
        (work / f"{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (work / "wheel.yaml").write_text(RECIPE)
    code = (
        "import pipeline, stages, exporters, flows, rarefy\n"
        "assert (pipeline.MINE, flows.MINE) == ('pipeline', 'flows')\n"
        "print(rarefy.__file__, rarefy.__version__)\n"
        "result = rarefy.run(rarefy.load('wheel.yaml'), quiet=True)\n"
        "print(rarefy.Bundle(result.bundle).predict(['fine']))\n"
    )
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", code],
        cwd=work,
        env=outside | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    where, version = done.stdout.splitlines()[0].split()
    assert Path(where).is_relative_to(environment)
    assert version == rarefy.__version__
