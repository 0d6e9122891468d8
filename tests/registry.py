"""A registry in the place of MLflow's, which notes what it is told; MLflow itself is a consumer."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rarefy.exporters.forms import mlflow, mlflow_registry

ADDRESS = "http://127.0.0.1:1"


class MlflowException(Exception):  # noqa: N818 - MLflow's name
    """An error of the server."""

    def get_http_status_code(self) -> int:
        return 503


@dataclass
class Registry:
    """Bundle's digest -> its version, and the aliases that were set, in order."""

    versions: dict[str, str] = field(default_factory=dict)
    aliases: list[tuple[str, str, str]] = field(default_factory=list)
    broken: bool = False
    """Whether an alias cannot be set."""

    def search_model_versions(self, asked: str) -> list[Any]:
        found = (v for digest, v in self.versions.items() if f"'{digest}'" in asked)
        return [SimpleNamespace(version=version, run_id="run") for version in found]

    def set_registered_model_alias(self, model: str, alias: str, version: str) -> None:
        if self.broken:
            raise MlflowException("the database is locked")
        self.aliases.append((model, alias, version))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Put a registry in MLflow's place."""
    made = Registry()
    parts: dict[str, dict[str, Any]] = {
        "mlflow": {"MlflowClient": lambda _uri: made},
        "mlflow.exceptions": {"MlflowException": MlflowException},
    }
    for name, values in parts.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(mlflow, "check_installed", lambda: None)
    monkeypatch.setenv(mlflow_registry.URI, ADDRESS)
    return made
