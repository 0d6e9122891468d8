"""``rarefy init``: write a new recipe from answers or from flags."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from flows.checks import takes_vnni
from flows.goals import GOALS
from flows.options import NO_LABEL, home_option, json_option, show_json
from flows.recognised import EMBEDDINGS, TEXT, Recognised
from pipeline.model.sources import DEMO_MODEL
from pipeline.store.home import Home

if TYPE_CHECKING:
    from pipeline.run.plan import Plan
    from pipeline.terms.vocabulary import Data

REFERENCES = ("package:", "hub:")
NULL = "null # the model's own answers are the truth"
START = " # the pretrained model to start from"
TRAINED = " # it is the teacher, and the budgets' baseline"
KEPT = (
    "so it is the teacher and the baseline itself, and the recipe has no 'finetune'; put one first "
    "to train it on these rows"
)
GUESSED = (
    "no column looks like labels, so the model's own answers are the truth (label: null); --label "
    "names one"
)
WIDE_BODY = 768
"""Columns of hidden states from which a body is finetuned at a lower rate (see ``finetune``)."""
WIDE = " # isa: vnni makes int8 a little more precise, for CPUs like this one only"
PLAIN = re.compile(r"(?:[A-Za-z_/]|\.\.?/)[A-Za-z0-9_./:@-]*")


@dataclass(frozen=True)
class Answers:
    """The answers that a recipe is written from. Paths are relative to the working directory."""

    path: Path
    name: str
    model: str
    train: str
    eval: str
    text: tuple[str, ...]
    label: tuple[str, ...]
    goal: str
    task: str = TEXT
    group: str | None = None
    corpus: str | None = None
    trained: bool = False
    """Whether the model is trained for the task and the labels of the data."""
    allow_pickle: bool = False


@click.command(short_help="Write a recipe; asks for whatever the flags do not give.")
@click.argument("path", type=click.Path(path_type=Path), default=Path("recipe.yaml"))
@click.option(
    "--model",
    help="A folder, package:import_name/sub/dir or hub:owner/name@revision; "
    f"default: {DEMO_MODEL}.",
)
@click.option("--train", help="Labelled rows for training: JSONL, CSV, TSV or Parquet.")
@click.option("--eval", "evaluation", help="Labelled rows for evaluation.")
@click.option("--text", multiple=True, help="The text column; repeat it for sentence pairs.")
@click.option("--label", multiple=True, help="The label column; `none`: the model's own answers.")
@click.option("--task", help="The task; default: recognised by the columns.")
@click.option("--corpus", help="What queries search: a file with the columns id and text.")
@click.option("--name", help="The recipe's name; default: the file's name.")
@click.option("--goal", type=click.Choice(list(GOALS)), help="What to optimize for.")
@click.option("--allow-pickle", is_flag=True, help="Load the model's weights from a pickle file.")
@click.option("--yes", is_flag=True, help="Use the defaults instead of asking.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@home_option
@json_option
def init(
    path: Path,
    model: str | None,
    train: str | None,
    evaluation: str | None,
    text: tuple[str, ...],
    label: tuple[str, ...],
    task: str | None,
    corpus: str | None,
    name: str | None,
    goal: str | None,
    allow_pickle: bool,
    yes: bool,
    force: bool,
    home: Home,
    as_json: bool,
) -> None:
    """Write a commented recipe to PATH (default: recipe.yaml) and check it.

    Example: `rarefy init --train train.csv --eval eval.csv --goal fast --yes`
    """
    from pipeline.recipe import recipe as recipes
    from pipeline.run.plan import Plan
    from pipeline.terms.errors import RecipeError

    if path.is_dir():
        path = path / "recipe.yaml"
    if path.exists() and not force:
        raise RecipeError(f"{path} already exists; --force replaces it")
    ask = _Ask(yes)
    train = ask("train", "Training rows (file)", train, None)
    evaluation = ask("eval", "Eval rows (file)", evaluation, _sibling(train))
    found = _columns(ask, train, text, label, task)
    if found.task == EMBEDDINGS and not found.label and len(found.text) > 1:
        corpus = ask("corpus", "What queries search (file)", corpus, _beside(train, "corpus"))
    model = ask("model", "Pretrained model", model, DEMO_MODEL)
    if not found.label and not task and found.task == TEXT:
        found = replace(found, task=_task_of(model, found.text, allow_pickle))
    answers = Answers(
        path=path,
        name=name or slug(path.stem if path.stem != "recipe" else path.resolve().parent.name),
        model=model,
        train=train,
        eval=evaluation,
        text=found.text,
        label=found.label,
        task=found.task,
        group=found.group,
        corpus=corpus,
        goal=ask("goal", f"Goal ({_goals()})", goal, "balanced", click.Choice(list(GOALS))),
        allow_pickle=allow_pickle,
    )
    before = path.read_bytes() if path.exists() else None
    _write(answers, home)
    notes = []
    try:
        plan = Plan(recipes.load(path), home.store())
        if plan.unbound_task.unlabelled and not label:
            notes.append(GUESSED)
        if trained := _trained(plan):
            notes.append(f"the model {trained}, {KEPT}")
            _write(replace(answers, trained=True), home)
            plan = Plan(recipes.load(path), home.store())
        plan.steps()
    except BaseException:  # leave no recipe that fails
        path.unlink() if before is None else path.write_bytes(before)
        raise
    notes += plan.warnings
    if as_json:
        show_json({"recipe": str(path), "warnings": notes})
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(str(path))
    click.echo(f"next: rarefy plan {path}, then rarefy run {path}", err=True)


@dataclass(frozen=True)
class _Ask:
    """The source of an answer: the flag if given, the default with --yes, else the user."""

    silent: bool

    def __call__(
        self,
        flag: str,
        question: str,
        given: str | None,
        default: str | None,
        kind: click.ParamType | None = None,
    ) -> str:
        if given is not None:
            return given
        if not self.silent:
            return self._asked(flag, question, default, kind)
        if default is None:
            raise click.UsageError(f"--{flag} is needed with --yes")
        return default

    def _asked(
        self, flag: str, question: str, default: str | None, kind: click.ParamType | None
    ) -> str:
        try:
            answer: str = click.prompt(
                question, default=default, type=kind, err=True, show_choices=False
            )
        except click.Abort:
            if sys.stdin.isatty():
                raise
            needed = f"--{flag} … --yes" if default is None else "--yes"
            raise click.UsageError(
                f"no terminal to ask at: give {needed}, which takes the defaults of the rest"
            ) from None
        return answer


def _columns(
    ask: _Ask, train: str, text: tuple[str, ...], label: tuple[str, ...], task: str | None
) -> Recognised:
    """Return the task and its columns; the prompts list the columns of a local file."""
    from flows import columns
    from flows.recognised import TOKENS, recognise, tags_as_text
    from pipeline.terms.errors import DataError

    if train.startswith(REFERENCES):
        table = columns.Columns({})
    else:
        table = columns.read(Path(train).expanduser())
    offer = f", one of {', '.join(table.names)}" if table.names else ""
    given = None if not label else tuple(name for name in label if name != NO_LABEL)
    found = recognise(table, text, given)
    if not text:
        likely = ", ".join(found.text) if found else None
        asked = ask("text", f"Text column{offer} (for pairs: two, with a comma)", None, likely)
        text = found.text if found and asked == likely else _parts(asked)
        found = recognise(table, text, given)
    if given is None:
        known = found is not None and bool(table.names)
        likely = (", ".join(found.label) or NO_LABEL) if found and known else None
        asked = ask("label", f"Label column{offer}", None, likely)
        named = found.label if found and likely and asked == likely else _parts(asked)
        given = tuple(name for name in named if name != NO_LABEL)
        found = recognise(table, text, given)
    for column in (*text, *given):
        if table.names and column not in table.names:
            raise DataError(f"{train}: no column {column!r}; it has {', '.join(table.names)}")
    likely_task = found.task if found else TEXT
    for column in given:
        values = table.values.get(column, [])
        as_text = any(isinstance(value, str) for value in values)
        if as_text and (TOKENS in (task, likely_task) or (not task and tags_as_text(values))):
            raise DataError(
                f"{train}: column {column!r} holds tags as text; token-classification needs a list "
                "in each row, as JSON lines have"
            )
    group = found.group if found and task in (None, found.task) else None
    return Recognised(task or likely_task, text, given, group)


def _task_of(model: str, text: tuple[str, ...], allow_pickle: bool) -> str:
    """Return the task of a model that is to answer rows without labels."""
    from flows.recognised import MULTI, SCORES, TOKENS
    from pipeline.stage import locating, tasks

    located = locating.locate(model, Path(), allow_pickle)
    for name in (SCORES, MULTI, TOKENS):
        if tasks.find(name).head(located.config) is not None:
            return name
    headless = tasks.find(TEXT).head(located.config) is None
    embeds = headless and located.pooling is not None and len(text) == 1
    return EMBEDDINGS if embeds else TEXT


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _sibling(train: str) -> str | None:
    """Return the file next to the training rows that looks like the eval split, or None."""
    names = ("eval", "test", "validation", "valid", "dev")
    return next((found for name in names if (found := _beside(train, name))), None)


def _beside(train: str, name: str) -> str | None:
    """Return the file that has another name where the training rows have ``train``, or None."""
    path = Path(train)
    beside = path.with_name(path.name.replace("train", name))
    return str(beside) if beside != path and beside.is_file() else None


def _goals() -> str:
    return "; ".join(f"{name}: {goal.about}" for name, goal in GOALS.items())


def slug(text: str) -> str:
    """Return a valid recipe name that is as close to the text as possible."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-")[:64] or "recipe"


def _write(answers: Answers, home: Home) -> None:
    """Write the recipe of these answers. Raises RecipeError if no file can be there."""
    from flows.editor import schema_line
    from pipeline.store import disk

    content = schema_line(answers.path, home) + recipe_text(answers)
    with disk.placing(answers.path):
        answers.path.write_text(content, encoding="utf-8")


def _trained(plan: Plan) -> str:
    """Say for what the model is trained if that is the task and the labels of the rows, else "".

    Scores have no names: any head for one counts. Embeddings are trained by what says how to pool.
    """
    from pipeline.store.artifact import Kind

    task, model = plan.unbound_task, plan.located
    if task.unlabelled:
        return ""
    if task.head.body_only:
        return "makes sentence embeddings" if model.pooling is not None else ""
    if model.kind(task, plan.labels) is not Kind.CHECKPOINT:
        return ""
    return "has a head with the data's labels" if plan.labels else "has a head for scores"


def recipe_text(answers: Answers) -> str:
    """Return the recipe with comments. Raises ModelError if the model cannot be read."""
    from pipeline.model import parts
    from pipeline.stage import locating, tasks

    base = answers.path.resolve().parent
    model = _reference(answers.model, base)
    located = locating.locate(answers.model, Path(), answers.allow_pickle)
    layers = parts.depth(located.config) or 6
    wide = (parts.width(located.config) or 0) >= WIDE_BODY
    length = min(128, located.positions or 128)
    task, rows = tasks.find(answers.task), _data(answers)
    bare = task.reader.lacks_labels(rows)
    goal = GOALS[answers.goal]
    if bare or answers.trained:
        goal = goal.without_labels() if bare else goal.of_trained()
    filled = {
        "{half}": str(max(1, layers // 2)),
        "{rate}": "3e-5" if wide else "7e-5",
        "{main}": next(iter(task.scorer.score_names(rows)), "spearman"),
        "{validate}": "validate: {linear: true}" if task.objective.linear else "validate",
    }
    lines = [
        f"# {answers.name}: {goal.about}.",
        f"name: {_scalar(answers.name)}",
        f"model: {_scalar(model)}{TRAINED if answers.trained else START}",
        *(["allow_pickle: true # its weights can run code when loaded"] * answers.allow_pickle),
        f"task: {answers.task}",
        "data: # paths are relative to this file's folder",
        f"  train: {_scalar(_reference(answers.train, base))}",
        f"  eval: {_scalar(_reference(answers.eval, base))} # never trained on",
        *([f"  corpus: {_scalar(_reference(answers.corpus, base))}"] if answers.corpus else ()),
        "  # unlabelled: more.jsonl # text from the same domain, for the teacher to label",
        f"  text: {_listed(answers.text)}",
        f"  label: {_listed(answers.label) if answers.label else NULL if bare else 'null'}",
        *([f"  group: {_scalar(answers.group)} # rows to rank"] if answers.group else ()),
        f"  max_length: {length} # tokens; longer rows are truncated and counted",
        "stages: # in order; `rarefy recipe show` explains each one and shows its defaults",
        *(f"  - {_filled(stage, filled)}" for stage in goal.stages),
        "targets: # where latency is measured",
        f"  - {{name: cpu, provider: cpu, threads: 1}}{WIDE if takes_vnni() else ''}",
        "budgets: # the exit code is 3 if one is missed",
        *(f"  - {_filled(budget, filled)}" for budget in goal.budgets),
    ]
    return "\n".join(lines) + "\n"


def _data(answers: Answers) -> Data:
    """Return the answers as the recipe's data."""
    from pipeline.terms.vocabulary import Data

    return Data(
        train=answers.train,
        eval=answers.eval,
        corpus=answers.corpus,
        text=answers.text,
        label=answers.label or None,
        group=answers.group,
    )


def _filled(line: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        line = line.replace(name, value)
    return line


def _listed(names: tuple[str, ...]) -> str:
    text = ", ".join(map(_scalar, names))
    return text if len(names) == 1 else f"[{text}]"


def _reference(given: str, base: Path) -> str:
    """Return a path as the recipe writes it, relative to the recipe's folder."""
    if given.startswith(REFERENCES):
        return given
    path = Path(given).expanduser()
    return given if path.is_absolute() else Path(os.path.relpath(path, base)).as_posix()


def _scalar(value: str) -> str:
    """Return a string as YAML: plain if it cannot be misread, else quoted."""
    plain = PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null")
    return value if plain and not value.endswith(":") else json.dumps(value, ensure_ascii=False)
