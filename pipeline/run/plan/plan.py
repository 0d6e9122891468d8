"""Plan a recipe on this machine before anything runs: kinds, fingerprints and cache hits.

A fingerprint is the sha256 of everything that a step's output depends on. Steps with the same
fingerprint have the same artifact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rarefy.pipeline import tasks
from rarefy.pipeline.data import corpus, development_split
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.data.table import Source
from rarefy.pipeline.measure import machine
from rarefy.pipeline.recipe.recipe import MODEL, LoadedRecipe
from rarefy.pipeline.run import import_model
from rarefy.pipeline.run.plan import baselines, check_chain, own_answers
from rarefy.pipeline.run.plan import check_budgets as budgets
from rarefy.pipeline.run.plan import row_lengths as lengths
from rarefy.pipeline.run.plan.own_answers import OwnAnswers
from rarefy.pipeline.sources import references, urls
from rarefy.pipeline.stage import Opened, Requirements, Stage, discovery, located_model
from rarefy.pipeline.store.artifact import HEADED, Artifact, Kind
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.tasks import load as data
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.digests import file_sha256, value_sha256, versions
from rarefy.pipeline.terms.errors import EvidenceError, RarefyError
from rarefy.pipeline.terms.progress import Progress
from rarefy.pipeline.terms.wording import plural

FEW_DEV_ROWS = 100
"""Fewer development rows tell two choices apart only if one is 10 points better."""
WORST_MARGIN = 0.98
"""Times 1/√rows: half the 95% interval of a share that is one half, where it is widest."""
READERS = ("pandas", "pyarrow")
"""The distributions that turn a data file into rows."""


@dataclass(frozen=True)
class Planned:
    """A step before it runs. ``fingerprint`` is None until all its inputs exist."""

    id: str
    stage: Stage
    kind: Kind
    fingerprint: str | None
    artifact: Artifact | None

    @property
    def cached(self) -> bool:
        return self.artifact is not None


@dataclass(frozen=True)
class Read:
    """The digests of the code of a stage and its task, and of other files than data, by path."""

    code: list[str]
    files: dict[Path, str]


@dataclass
class Plan:
    """A recipe with the store and the machine it will run on.

    Reads the model's config and hashes the data, but runs nothing. ``steps`` raises every error
    that can be detected before a run.
    """

    loaded: LoadedRecipe
    store: Store
    device: str = "cpu"
    threads: int = field(default_factory=machine.usable)
    first: bool = False
    """For a first release: skip budgets against a tag that does not exist yet."""

    def __post_init__(self) -> None:
        urls.begin_plan(self.store.root.parent)

    @cached_property
    def sources(self) -> dict[str, Source]:
        """The files of the splits and their digests."""
        return data.locate(self.loaded.recipe.data, self.loaded.base)

    @cached_property
    def data_digest(self) -> str:
        """The digest of all splits and of how they are read."""
        return data.digest(self.loaded.recipe.data, self.sources)

    @property
    def reading(self) -> dict[str, Any]:
        """The recipe's options for reading the data."""
        return data.reading(self.loaded.recipe.data)

    @cached_property
    def summary(self) -> data.Summary:
        """Labels, row counts and warnings; taken from the store if the data was read before."""
        recipe = self.loaded.recipe
        readers = [data.VERSION, recipe.task, *self.task_code, versions(READERS)]
        key = f"data-{value_sha256([self.data_digest, readers])}"
        note: data.Summary | None = self.store.note(key, data.Summary)
        if note is not None and note.rows.keys() >= self.sources.keys():
            return note
        folder = self.store.root / "tmp"
        _, summary = data.load(recipe.data, self.unbound_task.reader, self.sources, folder=folder)
        self.store.keep_note(key, vars(summary))
        return summary

    @property
    def warnings(self) -> list[str]:
        """Warnings about the data and the model; those about the import only once it has run."""
        warnings = [*self.loaded.notes, *self.summary.warnings]
        few = self._few_dev_rows
        if few:
            warnings.append(few)
        warnings += self.located.warnings(self.unbound_task, self.labels)
        warnings += self.located.length_warnings(self.loaded.recipe.data.max_length)
        model = self._imported
        if model is not None:
            warnings += import_model.warnings(model.manifest)
        warnings += budgets.notes(self.loaded, self.task)
        warnings += budgets.cell_notes(self.loaded, self.summary)
        warnings += baselines.skipped(self.loaded, self.absent)
        warnings += self.doubts
        if self.loaded.times_warn:
            from rarefy.pipeline.run.plan import times_as_warnings

            warnings += times_as_warnings.sentences(self.loaded)
        warnings += self.row_lengths.warnings(self.task)
        return warnings + self._uncached

    @property
    def _few_dev_rows(self) -> str:
        """A warning if something is chosen by development rows that tell little; "" if not."""
        dev = development_split.NAME
        count = self.summary.rows[dev]
        if count >= FEW_DEV_ROWS:
            return ""
        for warning in self.summary.warnings:
            if warning.startswith(f"{dev}: "):
                return ""
        reads = set()
        for step in self.loaded.steps:
            reads.update(self.reads(step.stage))
        if dev not in reads:
            return ""
        margin = WORST_MARGIN / math.sqrt(count)
        points = round(100 * margin)
        return (
            f"{dev}: {plural(count, 'row')}, by which a score is known within ±{points} points; "
            "they decide what is kept, such as thresholds and the layers in int8: give more in "
            "data.dev, a share of train or a file"
        )

    @property
    def _uncached(self) -> list[str]:
        """A note of the steps whose stages are in no file; empty if there are none."""
        steps = self.loaded.steps
        names = [step.id for step in steps if discovery.runs_every_time(type(step.stage))]
        advice = f"{discovery.NO_FILE}: runs every time; put it in a file to cache it"
        return [f"{', '.join(names)}: {advice}"] if names else []

    @property
    def row_lengths(self) -> lengths.Lengths:
        """How many rows are too long; empty until the model has been imported."""
        model = self._imported
        if model is None:
            return lengths.Lengths()
        note: lengths.Lengths | None = self.store.note(self._lengths_key(model), lengths.Lengths)
        return note or lengths.Lengths()

    @property
    def truth(self) -> dict[str, Any]:
        """What scores depend on besides the data, if it has no labels: who answered it."""
        if not self.unbound_task.unlabelled:
            return {}
        model = self._imported
        digest = model.digest if model else None
        return {"own answers": [own_answers.VERSION, digest]}

    @property
    def _imported(self) -> Artifact | None:
        """The imported model; None if it is not in the store yet."""
        fingerprint = self.fingerprint(MODEL, {})
        if fingerprint is None:
            return None
        return self.store.lookup(fingerprint)

    def count_lengths(
        self, model: Artifact, check: Callable[[Artifact], None], progress: Progress
    ) -> None:
        """Count the tokens of the rows with the model's tokenizer, and store the counts."""
        key = self._lengths_key(model)
        if self.store.note(key, lengths.Lengths) is not None:
            return
        check(model)
        counts = lengths.count(model.directory, self.task, self.rows, progress)
        self.store.keep_note(key, vars(counts))

    def own_answers(self, model: Artifact) -> OwnAnswers:
        """Return the imported model's answers to rows without labels."""
        about = {
            "reading": self.reading,
            "task": [self.loaded.recipe.task, *self.task_code],
            "libraries": versions((*self.importer.libraries, *READERS)),
        }
        return OwnAnswers(self.store, model, self.task, self.rows, self.device, about)

    def _lengths_key(self, model: Artifact) -> str:
        task = [self.loaded.recipe.task, *self.task_code]
        return lengths.key(self.data_digest, model.digest, " ".join(task))

    @cached_property
    def baselines(self) -> dict[str, Artifact]:
        """The artifacts that the budgets' tags point at now; remote ones are pulled.

        Raises RecipeError if a tag does not exist, unless this is a first release.
        """
        return baselines.resolve(self.loaded, self.store, self.first)

    @property
    def absent(self) -> list[str]:
        """The tags of the budgets that do not exist yet; empty unless this is a first release."""
        return [name for name in self.loaded.tags if name not in self.baselines]

    @property
    def doubts(self) -> list[str]:
        """Those of the warnings that no one may overlook: on budgets that may never be checked."""
        return baselines.doubts(self.loaded, self.absent)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The recipe's budgets, without those against a tag that does not exist yet."""
        absent = self.absent
        budgets = self.loaded.recipe.budgets
        return tuple(budget for budget in budgets if budget.against not in absent)

    @property
    def requirements(self) -> Requirements:
        """The parts of the recipe, other than its stages, that a stage may read."""
        return Requirements(
            targets=self.loaded.recipe.targets,
            budgets=self.budgets,
            slices=self.loaded.recipe.data.slices,
            baselines={name: artifact.digest for name, artifact in self.baselines.items()},
        )

    @cached_property
    def located(self) -> located_model.Located:
        """The model; its head has the data's names for its labels, where these are known."""
        recipe = self.loaded.recipe
        if references.is_tagged(recipe.model):
            from rarefy.pipeline.run.plan import tagged_model

            located = tagged_model.locate(self.store, recipe.model)
        else:
            located = located_model.locate(recipe.model, self.loaded.base, recipe.allow_pickle)
        task = self.unbound_task
        names = recipe.data.labels or ()
        if not task.head.labels_of(located.config):
            return located
        return located.with_labels(task, names, self.summary.labels)

    @cached_property
    def labels(self) -> list[str]:
        """The labels in output order: the model's own order if it has exactly these labels."""
        head = self.unbound_task.head.labels_of(self.located.config) or []
        if self.unbound_task.unlabelled:
            return head
        labels = self.summary.labels
        return head if set(head) == set(labels) else labels

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The rows with their targets, read only when a stage runs.

        If they have no labels, the targets are the imported model's own answers. Raises
        EvidenceError if it has not answered them yet.
        """
        if not self.unbound_task.unlabelled:
            return self.rows
        model = self._imported
        if model is None:
            raise EvidenceError(
                "data.label is null, and the model that labels the rows is not in this store: run "
                "the recipe to import it"
            )
        return self.own_answers(model).attached()

    @cached_property
    def rows(self) -> dict[str, Split]:
        """The rows as they are in the data."""
        recipe = self.loaded.recipe.data
        folder = self.store.root / "tmp"
        splits, _ = data.load(recipe, self.unbound_task.reader, self.sources, self.labels, folder)
        return splits

    @cached_property
    def unbound_task(self) -> tasks.Task:
        return unlabelled.for_data(tasks.find(self.loaded.recipe.task), self.loaded.recipe.data)

    @cached_property
    def task(self) -> tasks.Task:
        recipe = self.loaded.recipe
        return self.unbound_task.bind(
            labels=tuple(self.labels),
            max_length=recipe.data.max_length,
            text_columns=recipe.data.text_columns,
            windows=recipe.data.long_texts == "windows",
        )

    @property
    def task_code(self) -> list[str]:
        """What stands for the code of the task, which encodes rows and scores.

        Raises RarefyError if that of a plug-in has changed since it was loaded.
        """
        return tasks.code_of(self.unbound_task)

    @cached_property
    def importer(self) -> import_model.ImportModel:
        return import_model.ImportModel.of(self.located)

    def steps(self) -> list[Planned]:
        """Return every step with its kind and, if it is cached, its artifact.

        Raises RecipeError if the order of the stages cannot work or a budget cannot be judged,
        DataError or ModelError if the recipe's data or model cannot be used.
        """
        self._check_task()
        self._check_budgets()
        for name, tagged in self.baselines.items():
            baselines.check(name, tagged.directory, self.task)
        check_chain.check_model(self.loaded, self.located, self.unbound_task)
        own_answers.check(self.loaded, self.unbound_task, self._imported_kind())
        kinds = self.kinds()
        check_chain.check_plans(self.loaded, kinds)
        configs = check_chain.follow_configs(self.loaded, {MODEL: self.located.config})
        check_chain.check_positions(self.loaded, configs)
        budgets.check_references(self.loaded, kinds)
        budgets.check_cells(self.loaded, self.unbound_task, self.labels, self.summary)
        budgets.check_own_metrics(self.loaded, self.task, self.summary.rows["eval"])
        artifacts: dict[str, Artifact] = {}
        steps = []
        for identifier, kind in kinds.items():
            stage = self.stage_of(identifier)
            fingerprint = self.fingerprint(identifier, artifacts)
            artifact = None
            if fingerprint is None:
                self._surroundings(stage, self.read(identifier))  # say now if a file is missing
            else:
                artifact = self.store.lookup(fingerprint)
            if artifact is not None:
                artifacts[identifier] = artifact
            elif identifier != MODEL:
                self._check_opened(identifier, kinds)
            steps.append(Planned(identifier, stage, kind, fingerprint, artifact))
        return steps

    def _check_opened(self, identifier: str, kinds: dict[str, Kind]) -> None:
        """Let a stage that will run check its parameters against the model and the data."""
        loaded, earlier = self.loaded, dict[str, Stage]()
        for step in loaded.steps:
            if step.id == identifier:
                opened = Opened(self.task, kinds[step.input], loaded.base, lambda: self.rows)
                check_chain.check_opened(loaded, step, earlier, opened)
            earlier[step.id] = step.stage

    def find_errors(self) -> list[RarefyError]:
        """Return the errors of the recipe, its data and its model, as far as they are independent.

        If the stages' parameters, the budgets and the data's files are right, the first of what
        ``steps`` raises.
        """
        errors = []
        for check in (self._check_task, self._check_budgets, self._check_data):
            try:
                check()
            except RarefyError as error:
                errors.append(error)
        if not errors:
            try:
                self.steps()
            except RarefyError as error:
                errors.append(error)
        return errors

    def _check_task(self) -> None:
        check_chain.check_known(self.loaded)
        check_chain.check_windows(self.loaded, self.unbound_task)
        check_chain.check_stages(self.loaded, self.unbound_task)

    def _check_budgets(self) -> None:
        budgets.check(self.loaded, self.unbound_task)

    def _check_data(self) -> None:
        self.sources  # noqa: B018 (raises DataError if a file is missing)

    def kinds(self) -> dict[str, Kind]:
        """Return the kind of each step's output. Raises RecipeError if a stage cannot take one."""
        return check_chain.follow_kinds(self.loaded, {MODEL: self._imported_kind()})

    def _imported_kind(self) -> Kind:
        return self.located.kind(self.unbound_task, self.labels)

    def stage_of(self, identifier: str) -> Stage:
        return self.importer if identifier == MODEL else self.loaded.step(identifier).stage

    def parents(self, identifier: str) -> list[tuple[str, str]]:
        """Return the role and step id of every artifact that a step reads, its input last."""
        if identifier == MODEL:
            return []
        step = self.loaded.step(identifier)
        references = step.stage.references()
        parents = list(references.items())
        if step.stage.policy.sees_ancestors:
            named = {step.input, *references.values()}
            ancestors = self.loaded.ancestors(step)
            if self._imported_kind() is Kind.CHECKPOINT:
                ancestors = [MODEL, *ancestors]
            parents += [("reference", name) for name in ancestors if name not in named]
        if step.stage.policy.reads_input:
            parents.append(("input", step.input))
        return parents

    def fingerprint(
        self, identifier: str, known: dict[str, Artifact], read: Read | None = None
    ) -> str | None:
        """Return the sha256 of all that a step's output depends on; None if an input is unknown."""
        value = self.dependencies(identifier, known, read)
        if value is None:
            return None
        return value_sha256(value)

    def dependencies(
        self, identifier: str, known: dict[str, Artifact], read: Read | None = None
    ) -> dict[str, Any] | None:
        """Return all that a step's output depends on, as plain values; None without its inputs."""
        stage, parents = self.stage_of(identifier), self.parents(identifier)
        if any(name not in known for _, name in parents):
            return None
        read = read or self.read(identifier)
        value: dict[str, Any] = {
            "stage": [stage.name, stage.version],
            "source": read.code,
            "parameters": stage.model_dump(mode="json"),
        }
        if identifier == MODEL:
            value["kind"] = self._imported_kind()
            value["body"] = self.unbound_task.head.body_only
            if self.located.own_labels:
                value["labels"] = self.labels
            value["libraries"] = versions(stage.libraries)
            if self.reads(stage):
                value |= self._data(stage)
        else:
            value |= self._surroundings(stage, read)
            value["parents"] = []
            for role, name in parents:
                key = name if stage.policy.sees_ancestors else role
                value["parents"].append([key, known[name].identity])
        return value

    def read(self, identifier: str) -> Read:
        """Return the code of a step's stage and the files that it names, as they are now.

        Raises RecipeError if a file is missing, RarefyError if code has changed since it was
        loaded.
        """
        stage, files = self.stage_of(identifier), {}
        for path in self.loaded.call(stage.files, self.loaded.base):
            if not path.is_file():
                raise self.loaded.error(self.loaded.step(identifier), f"{path}: no such file")
            files[path] = file_sha256(path)
        return Read([*discovery.source_digests(type(stage)), *self.task_code], files)

    def _surroundings(self, stage: Stage, read: Read) -> dict[str, Any]:
        """Return what a stage's output depends on besides its code, parameters and parents."""
        libraries = list(stage.libraries)
        if self.reads(stage):
            libraries += READERS
        value = self._data(stage) | {
            "task": self.loaded.recipe.task,
            "files": list(read.files.values()),
            "seed": self.seed(stage),
            "libraries": versions(libraries),
            "device": self.device,
            "environment": self.loaded.call(stage.environment, self.requirements),
        }
        if self.unbound_task.unlabelled:
            value["own answers"] = own_answers.VERSION
        return value

    def seed(self, stage: Stage) -> int:
        """Return what a stage draws from: its entry's own seed, or the recipe's if it matters."""
        for step in self.loaded.steps:
            if step.stage is stage and step.seed is not None:
                return step.seed
        return self.loaded.recipe.seed if stage.policy.seeded else 0

    def _data(self, stage: Stage) -> dict[str, Any]:
        left_out = self.summary.left_out
        digests = {}
        for name in self.reads(stage):
            digests[name] = self.sources[name].sha256 + left_out.get(name, "")
        return {"data": digests, "reading": self.reading, "labels": self.labels}

    def reads(self, stage: Stage) -> list[str]:
        """Return the splits that a step reads: its stage, or the task to choose for its model."""
        names = set(stage.reads)
        if self._chooses(stage):
            names.add(development_split.NAME)
        if "eval" in names:
            names.add(corpus.NAME)  # what eval's queries search
        return sorted(names & self.sources.keys())

    def _chooses(self, stage: Stage) -> bool:
        """Return whether the task chooses something for the model that a stage makes."""
        if not self.unbound_task.head.chooses:
            return False
        if stage is self.importer:
            return not self.unbound_task.unlabelled and self._imported_kind() in HEADED
        return stage.produces in (None, *HEADED)
