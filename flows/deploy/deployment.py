"""``prefect.yaml``: what a worker elsewhere needs to run a recipe, without a path of this machine.

The file is Prefect's own: `prefect deploy` reads it too. Only entries of rarefy's are replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from rarefy.flows.run import job as jobs
from rarefy.flows.sharing import recipe_source
from rarefy.flows.sharing.recipe_source import InGit
from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.recipe.recipe import LoadedRecipe, Step, strings
from rarefy.pipeline.sources import references
from rarefy.pipeline.store import disk
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import REMOTE_TAG

HEADER = (
    "# Written by `rarefy deploy`, which replaces its entries; `prefect deploy` reads it too.\n"
)
ENTRYPOINT = "rarefy.flows.run.flow.compress"
COLLISIONS = {"wait": "ENQUEUE", "skip": "CANCEL_NEW"}
"""What a run does while another run of its deployment is going on, in Prefect's words."""
CLEARS = {"PREFECT_DEPLOYMENTS_CLEAR_SCHEDULES_ON_EMPTY": "true"}
"""The setting with which Prefect ends the schedule of a deployment that has none any more."""
RUN_HERE = frozenset({"process"})
"""The types of work pools that this project's tests run."""
_METADATA = "server/api/collections_data/views/aggregate-worker-metadata.json"


@dataclass(frozen=True)
class Deployment:
    """A recipe with where, when and how workers run it. ``source``: its address."""

    name: str
    loaded: LoadedRecipe
    source: str
    pool: str
    cron: str | None = None
    timezone: str = "UTC"
    busy: str = "wait"
    tags: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The digest of the recipe's text, as far as people read it."""
        digest = hashlib.sha256(self.loaded.text.encode())
        return digest.hexdigest()[:12]

    def entry(self, tags: Sequence[str]) -> dict[str, Any]:
        """Return the deployment's entry in ``prefect.yaml``; ``tags`` come before its own."""
        parameters: dict[str, Any] = {"recipe": self.source, "command": self.command}
        for name, value in self.parameters.items():
            if value is not None:
                parameters[name] = value
        schedules = []
        if self.cron:
            schedules.append({"cron": self.cron, "timezone": self.timezone, "active": True})
        unique_tags = list(dict.fromkeys([*tags, *self.tags]))
        limit = {"limit": 1, "collision_strategy": COLLISIONS[self.busy]}
        pool = {"name": self.pool, "job_variables": dict(self.job_variables)}
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "tags": unique_tags,
            "entrypoint": ENTRYPOINT,
            "pull": recipe_source.pull_steps(self.source),
            "parameters": parameters,
            "schedules": schedules,
            "concurrency_limit": limit,
            "work_pool": pool,
        }

    @property
    def command(self) -> str:
        """The command of `rarefy run` that does the same."""
        file = re.split(r"[/:]", self.source)[-1]
        device, threads = self.parameters.get("device"), self.parameters.get("threads")
        options = jobs.words({"--device": device, "--threads": threads})
        return shlex.join(["rarefy", "run", *options, file])

    @property
    def description(self) -> str:
        """The chain of stages and the number of budgets, for Prefect's pages."""
        recipe = self.loaded.recipe
        stages = [step.id for step in self.loaded.steps]
        chain = " → ".join([recipe.model, *stages])
        count = len(recipe.budgets)
        if count == 1:
            return f"{chain}; 1 budget"
        return f"{chain}; {count} budgets"


def check_portable(loaded: LoadedRecipe, git: InGit | None = None) -> None:
    """Raise RecipeError if a recipe needs what only this machine's store or disk has.

    Args:
        loaded: The recipe.
        git: The recipe's address in a repository, if workers clone that and have all that is in it.
    """
    for position, budget in enumerate(loaded.recipe.budgets):
        tag = budget.against
        is_local = tag in loaded.tags and REMOTE_TAG not in str(tag)
        if not is_local:
            continue
        key = ("budgets", position, "against")
        missing = (
            f"the tag {tag!r} is in this machine's store, which a worker elsewhere does not have"
        )
        raise loaded.where.say(key, f"{missing}; compare with URL#TAG")
    model = loaded.recipe.model
    if references.is_tagged(model):
        place = ("model",)
        message = f"{model} is in this machine's store, which a worker elsewhere does not have"
        raise loaded.where.say(place, message)
    for name, reference in _references(loaded):
        where = f"{loaded.where.source}: {name}"
        if reference.startswith(("/", "~")):
            raise RecipeError(
                f"{where}: {reference} is a path of this machine; give one relative to the recipe"
            )
        if git is None:
            recipe_source.beside(reference, where)
        elif not git.contains(reference):
            raise RecipeError(
                f"{where}: {reference} is outside of the repository {git.repository}, so a worker "
                "does not have it"
            )


def _references(loaded: LoadedRecipe) -> Iterator[tuple[str, str]]:
    """Yield where a recipe names files and folders, and how."""
    yield "model", loaded.recipe.model
    for name, reference in loaded.recipe.data.references.items():
        yield f"data.{name}", reference
    for step in loaded.steps:
        for reference in _files_of(step, loaded.base):
            yield step.id, reference


def _files_of(step: Step, base: Path) -> Iterator[str]:
    """Yield the files and folders that a stage reads, as the recipe names them.

    Not those that it does not name by a path: of a hub, or of an installed package.
    """
    paths: set[Path] = set()
    for file in step.stage.files(base):
        path = Path(os.path.normpath(file))
        paths |= {path, *path.parents}
    paths -= {base, *base.parents}
    for text in sorted(strings(step.stage.model_dump(mode="json"))):
        with suppress(RuntimeError):  # "~name" for a user that does not exist
            path = base / Path(text).expanduser()
            if Path(os.path.normpath(path)) in paths:
                yield text


def write(path: Path, entry: Mapping[str, Any], prefect_version: str) -> None:
    """Add an entry to a ``prefect.yaml``, or replace the one of that name.

    Raises RecipeError if the file was not written by rarefy: its comments would be lost. Also
    raises what ``disk.placing`` raises.
    """
    values: dict[str, Any] = {"name": "rarefy", "deployments": []}
    if path.exists():
        values = _read_file(path)
    entries = [other for other in values["deployments"] if other["name"] != entry["name"]]
    entries.append(dict(entry))
    values["prefect-version"] = prefect_version
    values["deployments"] = entries
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    with disk.placing(path):
        disk.write_text(path, HEADER + text)


def _read_file(path: Path) -> dict[str, Any]:
    """Return what a ``prefect.yaml`` of rarefy's says. Raises RecipeError if it is none."""
    data, header = path.read_bytes(), HEADER.encode()
    if not data.startswith(header):
        raise RecipeError(
            f"{path}: rarefy did not write this and would replace it; give another --file"
        )
    # Somebody may have edited it since.
    values: Any = None
    if data.removeprefix(header).strip():
        values = yaml_file.parse(data, str(path)).values
    if not isinstance(values, dict) or not _are_entries(values.get("deployments")):
        raise RecipeError(f"{path}: not a prefect.yaml of rarefy; give another --file")
    return values


def _are_entries(entries: Any) -> bool:
    """Return whether a value read from a file is a list of deployments with names."""
    if not isinstance(entries, list):
        return False
    return all(isinstance(entry, dict) and "name" in entry for entry in entries)


def template_of(kind: str) -> dict[str, Any]:
    """Return Prefect's own job template of a type of work pools, as this Prefect has it.

    Raises RecipeError if there is no such type.
    """
    file = resources.files("prefect") / _METADATA
    text = file.read_text(encoding="utf-8")
    types: dict[str, Any] = {}
    for types_of_package in json.loads(text).values():
        types |= types_of_package
    if kind not in types:
        names = ", ".join(types)
        raise RecipeError(f"--type {kind}: no such type of work pools; known: {names}")
    template: dict[str, Any] = types[kind]["default_base_job_configuration"]
    return template


def check_variables(
    variables: Mapping[str, Any], template: Mapping[str, Any], pool: str, kind: str
) -> None:
    """Raise RecipeError if job variables do not fit the schema of a pool's job template.

    Prefect's default image has no rarefy in it, so a pool of containers needs one.

    Args:
        variables: The job variables by their names.
        template: The pool's base job template, with a JSON schema of its variables.
        pool: The pool's name, for errors.
        kind: The pool's type, for errors.
    """
    import jsonschema

    schema = template.get("variables", {})
    properties = schema.get("properties", {})
    for name in variables:
        if name not in properties:
            available = ", ".join(properties)
            raise RecipeError(
                f"--job-variable {name}: the work pool {pool!r} has no such variable; it has: "
                f"{available}"
            )
    if "image" in properties and "image" not in variables:
        raise RecipeError(
            f"the work pool {pool!r} starts containers ({kind}): name an image that has rarefy "
            "and no entrypoint (the documentation shows one), with --job-variable image=NAME"
        )
    validator = jsonschema.Draft202012Validator(schema)
    error = next(validator.iter_errors(dict(variables)), None)
    if error is not None:
        where = ".".join(map(str, error.path)) or pool
        raise RecipeError(f"--job-variable {where}: {error.message}")


def variable(text: str) -> tuple[str, Any]:
    """Parse ``KEY=VALUE``, with a value in YAML. Raises RecipeError if it is not of that form."""
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise RecipeError(f"--job-variable {text}: expected KEY=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--job-variable {name}: {value!r} is not valid YAML") from None
