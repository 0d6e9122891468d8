"""Runs and models on an MLflow server: log what made a bundle, register it, move its alias.

Credentials come from the environment, as MLflow's documentation says.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarefy.exporters.forms import mlflow as form
from rarefy.exporters.forms.source import Source
from rarefy.pipeline.terms import credentials
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError, RecipeError
from rarefy.pipeline.verdict.history import plain_numbers
from rarefy.pipeline.verdict.provenance import Provenance
from rarefy.pipeline.verdict.record import ReportData

URI = "MLFLOW_TRACKING_URI"
DIGEST = "rarefy.bundle"
"""The tag of a model's version that holds the bundle's digest."""
ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]{1,255}", re.IGNORECASE)
NAME = re.compile(r"[\w.-]{1,128}")
LONGEST = 500
"""Characters of a parameter's value; stores of earlier versions hold no more."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model, the run that logged it, and whether that was just now."""

    model: str
    version: str
    run: str | None
    new: bool


def address(given: str | None) -> str | None:
    """Return the tracking server's address: the given one, or that of the environment.

    Raises RecipeError if it contains credentials.
    """
    uri = given or os.environ.get(URI) or None
    if uri is not None and credentials.found_in(uri):
        raise RecipeError(credentials.REFUSED)
    return uri


def register(
    source: Source, provenance: Provenance, pages: Sequence[Path], uri: str, model: str
) -> Registered:
    """Log a run with parameters, numbers, pages and model, and register the model.

    A bundle that is registered already stays as it is.

    Args:
        source: the bundle.
        provenance: where it comes from.
        pages: the files of its run that are logged with it, for people.
        uri: the address of the tracking server.
        model: the name of the registered model.

    Raises:
        ProviderError: if the server does not answer.
        RecipeError: if it refuses.
        IntegrityError: if the bundle has no manifest.
    """
    form.check_installed()
    check_name(model)
    digest = source.digest
    if digest is None:
        raise IntegrityError(f"{source.folder}: the bundle has no manifest.json")
    with _speaking(uri):
        import mlflow

        mlflow.set_tracking_uri(uri)
        existing = _version(mlflow.MlflowClient(), model, digest)
        if existing is not None:
            return Registered(model, str(existing.version), existing.run_id, new=False)
        mlflow.set_experiment(model)
        with mlflow.start_run(run_name=provenance.name or model) as run:
            _describe(mlflow, source, provenance, pages)
            logged = mlflow.models.Model.log(
                None,
                sys.modules[form.__name__],
                name=model.replace(".", "_"),  # only a registered model's may have a dot
                flavor_name="rarefy",
                source=source,
            )
            created = mlflow.register_model(logged.model_uri, model, tags={DIGEST: digest})
        return Registered(model, str(created.version), run.info.run_id, new=True)


def check_name(model: str) -> None:
    """Raise RecipeError if a registered model cannot have this name."""
    if not NAME.fullmatch(model):
        raise RecipeError(
            f"{model!r} cannot be a registered model's name: write letters, digits, '.', '_' "
            "and '-', up to 128"
        )


@dataclass
class Alias:
    """An alias of a registered model that follows a tag: looked up first, moved afterwards.

    ``uri``: the tracking server's address; None if none is known.
    """

    uri: str | None
    model: str
    alias: str
    version: str | None = None

    def check(self) -> None:
        """Raise RecipeError if there is no server, or MLflow does not allow the names."""
        form.check_installed()
        if self.uri is None:
            raise RecipeError(f"--mlflow: there is no server; give --tracking-uri, or set {URI}")
        check_name(self.model)
        if not ALIAS.fullmatch(self.alias):
            raise RecipeError(
                f"--mlflow: {self.alias!r} cannot be an alias of MLflow: write letters, digits, "
                "'_' and '-', but not 'latest' or 'v1'"
            )

    def find(self, digest: str) -> None:
        """Look up the version of a bundle.

        Raises RecipeError if there is none, and ProviderError if the server does not answer.
        """
        self.check()
        assert self.uri is not None
        with _speaking(self.uri):
            import mlflow

            registered = _version(mlflow.MlflowClient(self.uri), self.model, digest)
        if registered is None:
            raise RecipeError(
                f"--mlflow: no version of {self.model!r} is the bundle {digest[:12]}; register it "
                f"with `rarefy bundle {digest[:12]} OUT --for mlflow --name {self.model}`"
            )
        self.version = str(registered.version)

    def move(self) -> None:
        """Move the alias to the version that was found; the tag has moved already.

        Raises ProviderError if the server does not answer.
        """
        assert self.uri is not None
        try:
            with _speaking(self.uri):
                import mlflow

                client = mlflow.MlflowClient(self.uri)
                client.set_registered_model_alias(self.model, self.alias, self.version)
        except (ProviderError, RecipeError) as error:
            raise ProviderError(
                f"{error}; the tag has moved, but the alias {self.alias!r} of {self.model!r} has "
                f"not: set it to version {self.version} there"
            ) from None


def _describe(mlflow: Any, source: Source, provenance: Provenance, pages: Sequence[Path]) -> None:
    """Log the recipe's parameters, the ledger's numbers, and the run's pages for people."""
    mlflow.set_tags({DIGEST: source.digest, "rarefy.task": source.task})
    if provenance.verdict is not None:
        mlflow.set_tag("rarefy.verdict", provenance.verdict.outcome)
    record = provenance.record
    if record is None:
        return
    parameters = {"model": provenance.model, "task": record.task}
    for node in record.lineage:
        simple = {k: v for k, v in node.parameters.items() if not isinstance(v, dict)}
        if node.stage != "import":
            parameters |= {f"{node.id}.{key}": value for key, value in simple.items()}
    mlflow.log_params({key: str(value)[:LONGEST] for key, value in parameters.items()})
    mlflow.log_metrics(numbers_of(record, judged=provenance.judges(source.digest)))
    mlflow.log_text(record.recipe, "recipe.yaml")
    for page in pages:
        mlflow.log_artifact(str(page))


def numbers_of(record: ReportData, *, judged: bool) -> dict[str, float]:
    """Return the ledger's numbers as ``STAGE.METRIC``, and the candidate's as ``METRIC.TARGET``.

    The candidate's are those of the history: main score, size and median latency.
    ``judged``: the candidate is the bundle; another bundle's numbers are not its own.
    """
    numbers: dict[str, float] = {}
    for row in record.ledger:
        if row.metric and row.accuracy:
            numbers[f"{row.id}.{row.metric}"] = row.accuracy[0]
        numbers[f"{row.id}.size"] = float(row.size)
        if row.parameters is not None:
            numbers[f"{row.id}.parameters"] = float(row.parameters)
    if not judged or record.measurements is None:
        return numbers
    for number in plain_numbers(record.measurements):
        if number.value is None:
            continue
        key = number.metric
        if number.target:
            key = f"{number.metric}.{number.target}"
        numbers[key] = number.value
    return numbers


def _version(client: Any, model: str, digest: str) -> Any:
    """Return the newest version of a registered model that holds a bundle; None if none does."""
    versions = client.search_model_versions(f"name = '{model}' and tags.`{DIGEST}` = '{digest}'")
    return max(versions, key=lambda version: int(version.version), default=None)


@contextmanager
def _speaking(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into one line, after few attempts: its default waits for minutes.

    It also prints addresses to stdout, which is for a command's data, unless it is told not to.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        refused = 400 <= error.get_http_status_code() < 500
        raise (RecipeError if refused else ProviderError)(f"MLflow at {uri}: {line}") from None
    except OSError as error:  # of requests, which it lets through
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ProviderError(f"MLflow at {uri} does not respond: {line}") from None
