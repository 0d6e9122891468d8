"""The libraries that are declared: all that are imported, no others, each with a lower bound."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDERS = ("rarefy", "pipeline", "stages", "exporters", "flows")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {
    "markupsafe": "jinja2",  # which cannot be without it
    "mlflow": "mlflow-skinny",
    "pydantic_core": "pydantic",  # likewise
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""A module -> the distribution that brings it, where their names differ."""
BESIDE = {
    "aiohttp": "fsspec's file system for http, if it is installed",
    "azure": "fsspec's file system for Azure, if it is installed",
    "sentencepiece": "asked for by name, for tokenizers without tokenizer.json",
    "tensorrt_libs": "of the package that exporters/providers.py names",
    "triton_python_backend_utils": "of Triton's own process",
}
"""A module that no dependency brings -> whose it is."""
NOT_IMPORTED = {
    "accelerate": "transformers' Trainer",
    "distributed": "prefect-dask",
    "onnxscript": "torch.onnx.export",
    "ray": "prefect-ray",
}
"""A distribution that we do not import -> what imports it for us."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(text: str) -> set[str]:
    """Return the top names of the absolute imports in a module, inside functions too."""
    names = set[str]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names}


def libraries() -> set[str]:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    names = set[str]().union(*(imported(path.read_text()) for path in files))
    return names - set(sys.stdlib_module_names) - {"rarefy"} - set(BESIDE)


def requirements() -> Iterator[Requirement]:
    """Yield what is declared, apart from the developers' tools."""
    extras = PROJECT["optional-dependencies"]
    optional = [text for extra, texts in extras.items() if extra != "dev" for text in texts]
    yield from map(Requirement, [*PROJECT["dependencies"], *optional])


def test_what_is_imported_is_declared_and_nothing_else_is() -> None:
    used = {canonical(DISTRIBUTIONS.get(name, name)) for name in libraries()}
    declared = {canonical(requirement.name) for requirement in requirements()}
    declared.discard("onnxruntime-gpu")  # a build of onnxruntime
    assert "transformers" in used
    assert sorted(used - declared) == []
    assert declared - used == set(NOT_IMPORTED)


def test_every_library_has_a_lower_bound_and_no_upper_one() -> None:
    found = {each.name: [bound.operator for bound in each.specifier] for each in requirements()}
    assert len(found) > 30
    assert {name for name, operators in found.items() if operators != [">="]} == set()


def test_the_weekly_job_runs_what_a_developer_runs() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/versions.yml").read_text())["jobs"]
    assert "make test-lowest" in yaml.safe_dump(jobs["lowest"])
    tested = jobs["newest"]["strategy"]["matrix"]["python"]
    classifiers = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: 3." in text]
    assert tested == classifiers
