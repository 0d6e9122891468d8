"""``rarefy init``: write a new recipe from answers or from flags."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console.options import NO_LABEL, home_option, json_option, show_json
from rarefy.flows.doctor import takes_vnni
from rarefy.flows.new_recipe.goals import GOALS
from rarefy.flows.new_recipe.recognise import (
    EMBEDDINGS,
    MULTI,
    SCORES,
    TEXT,
    TOKENS,
    Recognised,
    recognise,
    tags_as_text,
)
from rarefy.pipeline.sources.references import DEMO_MODEL, model_reference
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import DataError, ModelError, RecipeError

if TYPE_CHECKING:
    from rarefy.flows.new_recipe.columns import Columns
    from rarefy.pipeline.run.plan.plan import Plan
    from rarefy.pipeline.stage.located_model import Located
    from rarefy.pipeline.terms.recipe_parts import Data

REFERENCES = ("package:", "hub:")
NULL = "null # the model's own predictions serve as labels"
START = " # the pretrained model to start from"
TRAINED = " # the original model: teacher and baseline"
KEPT = (
    "so it is the baseline as it is, and the recipe has no 'finetune' stage; add one to train the "
    "model on these rows"
)
EVAL_SHARE = "20%"
"""What is cut from train if no file looks like the eval rows."""
GUESSED = (
    "no column looks like labels, so the model's own predictions serve as labels (label: null); "
    "set --label to use a column"
)
WIDE_BODY = 768
"""Columns of hidden states from which a body is fine-tuned at a lower rate (see ``finetune``)."""
WIDE = " # isa: vnni makes int8 slightly more precise, on CPUs like this one only"
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
    labels: tuple[str, ...] = ()
    """In the order of the model's outputs; () if the model itself names them, or has no head."""
    trained: bool = False
    """Whether the model is trained for the task and the labels of the data."""
    allow_pickle: bool = False

    @property
    def folder(self) -> Path:
        """The recipe's folder."""
        return self.path.resolve().parent


@click.command(short_help="Write a recipe; asks for whatever the flags do not give.")
@click.argument("path", type=click.Path(path_type=Path), default=Path("recipe.yaml"))
@click.option(
    "--model",
    help="A folder, a model on the Hub (owner/name, hub:owner/name@revision) or "
    f"package:import_name/sub/dir; default: {DEMO_MODEL}.",
)
@click.option("--train", help="Labelled rows for training: JSONL, CSV, TSV or Parquet.")
@click.option(
    "--eval",
    "evaluation",
    help="Labelled rows for evaluation: a file, or a share of the training rows, e.g. 20%.",
)
@click.option(
    "--text", multiple=True, help="The text column; repeat the option for sentence pairs."
)
@click.option(
    "--label", multiple=True, help="The label column; `none`: use the model's own predictions."
)
@click.option(
    "--labels",
    help="The data's labels in the order of the model's outputs, e.g. negative,positive.",
)
@click.option(
    "--new-head", is_flag=True, help="Train a new head if the model's is for other labels."
)
@click.option("--task", help="The task; default: recognized by the columns.")
@click.option(
    "--corpus", help="The documents that queries search: a file with the columns id and text."
)
@click.option("--name", help="The recipe's name; default: the file's name.")
@click.option(
    "--goal",
    type=click.Choice(list(GOALS)),
    metavar="GOAL",
    help=f"What to optimize for: {', '.join(GOALS)}.",
)
@click.option("--allow-pickle", is_flag=True, help="Load the model's weights from a pickle file.")
@click.option("--yes", is_flag=True, help="Use the defaults; ask nothing.")
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
    labels: str | None,
    new_head: bool,
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

    Examples: `rarefy init --train train.csv --eval eval.csv --goal fast --yes`,
    `rarefy init --model my-model --labels negative,positive --train rows.csv --eval 20% --yes`
    """
    if path.is_dir():
        path = path / "recipe.yaml"
    if path.exists() and not force:
        raise RecipeError(f"{path} already exists; --force replaces it")
    prompt = _Prompt(yes)
    train = prompt("train", "Training rows (file)", train, None)
    table = _table(train)
    evaluation = prompt(
        "eval", "Eval rows (file, or share of train)", evaluation, _eval_file(train) or EVAL_SHARE
    )
    _check_share(evaluation)
    columns = _columns(prompt, train, table, text, label, task)
    if columns.task == EMBEDDINGS and not columns.label and len(columns.text) > 1:
        corpus_file = _named_like(train, "corpus")
        corpus = prompt("corpus", "Documents that queries search (file)", corpus, corpus_file)
    model = model_reference(prompt("model", "Pretrained model", model, DEMO_MODEL), Path())
    if not columns.label and not task and columns.task == TEXT:
        columns = replace(columns, task=_task_of(model, columns.text, allow_pickle))
    goals = click.Choice(list(GOALS))
    answers = Answers(
        path=path,
        name=name or _default_name(path),
        model=model,
        train=train,
        eval=evaluation,
        text=columns.text,
        label=columns.label,
        task=columns.task,
        group=columns.group,
        corpus=corpus,
        labels=_split(labels or ""),
        goal=prompt("goal", f"Goal ({_goals()})", goal, "balanced", goals),
        allow_pickle=allow_pickle,
    )
    notes = _write_checked(answers, home, guessed=not label, new_head=new_head)
    chosen = describe_choice(table, answers)
    if as_json:
        show_json({"recipe": str(path), "chosen": chosen, "warnings": notes})
        return
    click.echo(chosen, err=True)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(str(path))
    click.echo(f"next: rarefy plan {path}, then rarefy run {path}", err=True)


def _share(evaluation: str) -> float | None:
    """Return the share of train that the eval rows are, or None if they are in a file."""
    from rarefy.pipeline.terms.recipe_parts import share_of

    return share_of(evaluation)


def _check_share(evaluation: str) -> None:
    """Raise UsageError if the eval rows are a share of train that cannot be cut off."""
    from rarefy.pipeline.terms.recipe_parts import LARGEST_SHARE

    share = _share(evaluation)
    if share is not None and not 0 < share <= LARGEST_SHARE:
        raise click.UsageError(
            f"--eval {evaluation} is a share of the training rows; give one up to "
            f"{LARGEST_SHARE:.0%}, or a file"
        )


def describe_choice(table: Columns, answers: Answers) -> str:
    """Say in a line which columns, which task and which eval rows a recipe has, and which others.

    Args:
        table: The columns of the training rows, {} if they are not known.
        answers: What the recipe is written from.
    """
    text = ", ".join(answers.text)
    label = ", ".join(answers.label) or NO_LABEL
    doubts = []
    known = len(answers.text) == len(answers.label) == 1 and label in table.names
    if known and answers.task == TEXT and table.is_guess(text, label):
        doubts.append("a guess")
    taken = {*answers.text, *answers.label}
    others = [name for name in table.labels(answers.text[0]) if name not in taken]
    if others:
        doubts.append(f"also possible: {', '.join(others)}")
    if doubts:
        label += f" ({'; '.join(doubts)})"
    texts = [name for name in table.texts() if name not in taken]
    if texts:
        text += f" (also possible: {', '.join(texts)})"
    rows = answers.eval
    if _share(rows) is not None:
        rows = f"{rows} of {answers.train}"
    return f"text: {text}; label: {label}; task: {answers.task}; eval: {rows}"


def _write_checked(answers: Answers, home: Home, guessed: bool, new_head: bool) -> list[str]:
    """Write a recipe, plan it, and return what to tell the user of it.

    If the model is trained for the task already, the recipe is written for that.

    Args:
        answers: What the recipe is written from.
        home: The folder for artifacts and the schema.
        guessed: Whether the user has not said that the rows have no labels.
        new_head: Whether the model may lose a head that has as many outputs as there are labels.

    Raises:
        ModelError: It would lose such a head, and ``new_head`` is not given.
        RarefyError: The recipe cannot be planned. Its file is then as it was before.
    """
    path = answers.path
    before = path.read_bytes() if path.exists() else None
    _write(answers, home)
    notes = []
    try:
        plan = _plan(path, home)
        if plan.unbound_task.unlabelled and guessed:
            notes.append(GUESSED)
        if not new_head:
            _check_head(plan)
        training = _describe_training(plan)
        if training:
            notes.append(f"the model {training}, {KEPT}")
            _write(replace(answers, trained=True), home)
            plan = _plan(path, home)
        plan.steps()
    except BaseException:  # leave no recipe that fails
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
        raise
    return notes + plan.warnings


def _check_head(plan: Plan) -> None:
    """Raise ModelError if the model's head, with as many outputs, has other names for the labels.

    It is probably the one that the user has trained on these labels, and would be thrown away.
    """
    from rarefy.pipeline.store.artifact import Kind

    task, labels = plan.unbound_task, plan.labels
    outputs = task.head.labels_of(plan.located.config) or []
    fits = plan.located.kind(task, labels) is Kind.CHECKPOINT
    if not outputs or fits or len(outputs) != len(labels):
        return
    raise ModelError(
        f"the model's head has the outputs {', '.join(outputs)}, and the data has the labels "
        f"{', '.join(labels)}: give --labels {','.join(labels)}, in the order of the "
        "outputs, or --new-head to train a new one"
    )


def _plan(path: Path, home: Home) -> Plan:
    from rarefy.pipeline.recipe import recipe as recipes
    from rarefy.pipeline.run.plan.plan import Plan

    return Plan(recipes.load(path), home.store())


@dataclass(frozen=True)
class _Prompt:
    """The source of an answer: the flag's value, the default with --yes, else the user."""

    silent: bool

    def __call__(
        self,
        flag: str,
        question: str,
        value: str | None,
        default: str | None,
        kind: click.ParamType | None = None,
    ) -> str:
        """Return the answer to a question.

        Args:
            flag: The option that answers it, without dashes.
            question: The text of the prompt.
            value: The option's value, or None if the command was called without it.
            default: The answer without one, or None if there is no default.
            kind: What the user may answer; default: any text.

        Raises:
            UsageError: There is no answer, and nobody to ask.
        """
        if value is not None:
            return value
        if not self.silent:
            return self._ask_user(flag, question, default, kind)
        if default is None:
            raise click.UsageError(f"--{flag} is needed with --yes")
        return default

    def _ask_user(
        self, flag: str, question: str, default: str | None, kind: click.ParamType | None
    ) -> str:
        try:
            answer: str = click.prompt(
                question, default=default, type=kind, err=True, show_choices=False
            )
        except click.Abort:
            if sys.stdin.isatty():
                raise
            options = "--yes"
            if default is None:
                options = f"--{flag} … --yes"
            raise click.UsageError(
                f"no terminal to ask at: give {options}, which takes the defaults of the rest"
            ) from None
        return answer


def _table(train: str) -> Columns:
    """Return the columns of the training rows; {} if they are in no file of this machine.

    Raises DataError if the file cannot be read, or has no rows.
    """
    from rarefy.flows.new_recipe.columns import Columns, read

    if train.startswith(REFERENCES):
        return Columns({})
    table = read(Path(train).expanduser())
    if not any(table.values.values()):
        raise DataError(f"{train} has no rows")
    return table


def _columns(
    prompt: _Prompt,
    train: str,
    table: Columns,
    text: tuple[str, ...],
    label: tuple[str, ...],
    task: str | None,
) -> Recognised:
    """Return the task and its columns; the prompts list the columns of a local file.

    Args:
        prompt: Answers what the options do not.
        train: The training rows, a file or a reference.
        table: Their columns.
        text: The values of --text.
        label: The values of --label.
        task: The value of --task.

    Raises:
        DataError: The file lacks a column, or holds tags as text.
    """
    offer = ""
    if table.names:
        offer = f", one of {', '.join(table.names)}"
    label_columns = _without_none(label) if label else None
    if not text:
        text = _text_columns(prompt, table, label_columns, offer)
    if label_columns is None:
        label_columns = _label_columns(prompt, table, text, offer)
    for column in (*text, *label_columns):
        if table.names and column not in table.names:
            raise DataError(f"{train}: no column {column!r}; it has {', '.join(table.names)}")
    recognised = recognise(table, text, label_columns)
    likely_task, group = TEXT, None
    if recognised is not None:
        likely_task = recognised.task
        if task in (None, recognised.task):
            group = recognised.group
    for column in label_columns:
        values = table.values.get(column, [])
        if _has_texts(values) and _read_as_tags(values, task, likely_task):
            raise DataError(
                f"{train}: column {column!r} holds tags as text; token-classification needs a list "
                "in each row, as JSON lines have"
            )
    return Recognised(task or likely_task, text, label_columns, group)


def _text_columns(
    prompt: _Prompt, table: Columns, label: tuple[str, ...] | None, offer: str
) -> tuple[str, ...]:
    """Return the text columns as the user answers; the recognised ones are the default."""
    recognised = recognise(table, (), label)
    likely = None
    if recognised is not None:
        likely = ", ".join(recognised.text)
    answer = prompt("text", f"Text column{offer} (for pairs: two, with a comma)", None, likely)
    if recognised is not None and answer == likely:
        return recognised.text  # its names may contain commas
    return _split(answer)


def _label_columns(
    prompt: _Prompt, table: Columns, text: tuple[str, ...], offer: str
) -> tuple[str, ...]:
    """Return the label columns as the user answers; the recognised ones are the default."""
    recognised = recognise(table, text, None)
    likely = None
    if recognised is not None and table.names:
        likely = ", ".join(recognised.label) or NO_LABEL
    answer = prompt("label", f"Label column{offer}", None, likely)
    if recognised is not None and answer == likely:
        return _without_none(recognised.label)
    return _without_none(_split(answer))


def _without_none(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the label columns without the word for rows that have no labels."""
    return tuple(column for column in columns if column != NO_LABEL)


def _has_texts(values: list[Any]) -> bool:
    return any(isinstance(value, str) for value in values)


def _read_as_tags(values: list[Any], task: str | None, likely_task: str) -> bool:
    """Return whether a label column would be read as, or looks like, the tags of words."""
    if TOKENS in (task, likely_task):
        return True
    return not task and tags_as_text(values)


def _task_of(model: str, text: tuple[str, ...], allow_pickle: bool) -> str:
    """Return the task of a model that is to label rows itself."""
    from rarefy.pipeline import tasks
    from rarefy.pipeline.stage import located_model

    located = located_model.locate(model, Path(), allow_pickle)
    for name in (SCORES, MULTI, TOKENS):
        if tasks.find(name).head.labels_of(located.config) is not None:
            return name
    headless = tasks.find(TEXT).head.labels_of(located.config) is None
    if headless and located.pooling is not None and len(text) == 1:
        return EMBEDDINGS
    return TEXT


def _split(text: str) -> tuple[str, ...]:
    """Return the parts of a text between commas, without empty ones."""
    parts = map(str.strip, text.split(","))
    return tuple(filter(None, parts))


def _eval_file(train: str) -> str | None:
    """Return the file next to the training rows that looks like the eval split, or None."""
    for name in ("eval", "test", "validation", "valid", "dev"):
        file = _named_like(train, name)
        if file is not None:
            return file
    return None


def _named_like(train: str, name: str) -> str | None:
    """Return the file that has another name where the training rows have ``train``, or None."""
    path = Path(train)
    neighbour = path.with_name(path.name.replace("train", name))
    if neighbour == path or not neighbour.is_file():
        return None
    return str(neighbour)


def _goals() -> str:
    return "; ".join(f"{name}: {goal.about}" for name, goal in GOALS.items())


def _default_name(path: Path) -> str:
    """Return the name of a recipe that was given none: its file's, or else its folder's."""
    if path.stem == "recipe":
        return slug(path.resolve().parent.name)
    return slug(path.stem)


def slug(text: str) -> str:
    """Return a valid recipe name that is as close to the text as possible."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    return name.strip("._-")[:64] or "recipe"


def _write(answers: Answers, home: Home) -> None:
    """Write the recipe of these answers. Raises RecipeError if no file can be there."""
    from rarefy.flows.new_recipe.examples import schema_line
    from rarefy.pipeline.store import disk

    content = schema_line(answers.path, home) + recipe_text(answers)
    with disk.placing(answers.path):
        answers.path.write_text(content, encoding="utf-8")


def _describe_training(plan: Plan) -> str:
    """Say for what the model is trained if that is the task and the labels of the rows, else "".

    Scores have no names: any head for one counts. Embeddings are trained by what says how to pool.
    """
    from rarefy.pipeline.store.artifact import Kind

    task, model = plan.unbound_task, plan.located
    if task.unlabelled:
        return ""
    if task.head.body_only:
        return "makes sentence embeddings" if model.pooling is not None else ""
    if model.kind(task, plan.labels) is not Kind.CHECKPOINT:
        return ""
    if model.own_labels:
        outputs = ", ".join(model.own_labels)
        return f"has a head with the data's labels ({outputs} are {', '.join(plan.labels)})"
    return "has a head with the data's labels" if plan.labels else "has a head for scores"


def recipe_text(answers: Answers) -> str:
    """Return the recipe with comments. Raises ModelError if the model cannot be read."""
    from rarefy.pipeline import tasks
    from rarefy.pipeline.stage import located_model

    located = located_model.locate(answers.model, Path(), answers.allow_pickle)
    task = tasks.find(answers.task)
    rows = _data(answers)
    unlabelled = task.reader.lacks_labels(rows)
    goal = GOALS[answers.goal]
    if unlabelled:
        goal = goal.without_labels()
    elif answers.trained:
        goal = goal.for_trained_model()
    values = _goal_values(located.config)
    values["{main}"] = next(iter(task.scorer.score_names(rows)), "spearman")
    values["{validate}"] = "validate: {linear: warn}" if task.objective.linear else "validate"
    target = "{name: cpu, provider: cpu, threads: 1}"
    if takes_vnni():
        target += WIDE
    lines = [
        f"# {answers.name}: {goal.about}.",
        *_model_lines(answers),
        f"task: {answers.task}",
        *_data_lines(answers, unlabelled),
        f"  max_length: {_max_length(located)} # tokens; longer rows are truncated and counted",
        "stages: # in order; `rarefy recipe show` explains each one and shows its defaults",
        *_items(goal.stages, values),
        "targets: # where latency is measured",
        f"  - {target}",
        "budgets: # the exit code is 3 if one is missed",
        *_items(goal.budgets, values),
        *_release_lines(answers.name, "agreement" if unlabelled else values["{main}"]),
    ]
    return "\n".join(lines) + "\n"


def _release_lines(name: str, main: str) -> list[str]:
    """Return comments with the budgets against releases, whose tags do not exist yet.

    ``main``: the task's main score.
    """
    from rarefy.pipeline.terms.recipe_parts import ANCHOR

    promote, anchor = (
        f"rarefy promote {name} production",
        f"rarefy artifact tag {ANCHOR} production",
    )
    return [
        f"  # After the first release (`{promote}`, `{anchor}`),",
        "  # remove the # of these: against the last release, and against the first, which stays,",
        "  # so that small losses do not add up.",
        f"  # - {{metric: {main}, max_drop: 1 point, against: production}}",
        f"  # - {{metric: {main}, max_drop: 2 points, against: {ANCHOR}}}",
    ]


def _goal_values(config: Any) -> dict[str, str]:
    """Return what a goal's placeholders for the model stand for, by the model's config."""
    from rarefy.pipeline.model.architectures import parts

    layers = parts.depth(config) or 6
    half = max(1, layers // 2)
    rate = "7e-5"
    if (parts.width(config) or 0) >= WIDE_BODY:
        rate = "3e-5"
    return {"{half}": str(half), "{rate}": rate}


def _max_length(located: Located) -> int:
    """Return the tokens of the longest row that the recipe lets a model read."""
    return min(128, located.positions or 128)


def _model_lines(answers: Answers) -> list[str]:
    """Return the recipe's lines for its name and its model."""
    model = _scalar(_reference(answers.model, answers.folder))
    comment = TRAINED if answers.trained else START
    lines = [f"name: {_scalar(answers.name)}", f"model: {model}{comment}"]
    if answers.allow_pickle:
        lines.append("allow_pickle: true # its weights can run code when loaded")
    return lines


def _data_lines(answers: Answers, unlabelled: bool) -> list[str]:
    """Return the recipe's lines for its data; ``unlabelled``: the model labels the rows itself."""
    train = _scalar(_reference(answers.train, answers.folder))
    evaluation = _scalar(_reference(answers.eval, answers.folder))
    share, comment = _share(answers.eval), "never trained on"
    if share is not None:
        evaluation = f"{100 * share:g}%"
        comment = "of train: always the same rows, never trained on"
    lines = [
        "data: # paths are relative to this file's folder",
        f"  train: {train}",
        f"  eval: {evaluation} # {comment}",
    ]
    if answers.corpus:
        corpus = _scalar(_reference(answers.corpus, answers.folder))
        lines.append(f"  corpus: {corpus}")
    label = "null"
    if answers.label:
        label = _listed(answers.label)
    elif unlabelled:
        label = NULL
    lines += [
        "  # unlabelled: more.jsonl # text from the same domain, for the teacher to label",
        f"  text: {_listed(answers.text)}",
        f"  label: {label}",
    ]
    if answers.labels:
        listed = ", ".join(map(_scalar, answers.labels))
        lines.append(f"  labels: [{listed}] # in the order of the model's outputs")
    if answers.group:
        lines.append(f"  group: {_scalar(answers.group)} # rows to rank")
    return lines


def _data(answers: Answers) -> Data:
    """Return the answers as the recipe's data."""
    from rarefy.pipeline.terms.recipe_parts import Data

    return Data(
        train=answers.train,
        eval=answers.eval,
        corpus=answers.corpus,
        text=answers.text,
        label=answers.label or None,
        labels=answers.labels or None,
        group=answers.group,
    )


def _items(lines: tuple[str, ...], values: dict[str, str]) -> list[str]:
    """Return lines as the items of a YAML list, with their placeholders filled in."""
    items = []
    for line in lines:
        for placeholder, value in values.items():
            line = line.replace(placeholder, value)
        items.append(f"  - {line}")
    return items


def _listed(names: tuple[str, ...]) -> str:
    """Return names as YAML: one as it is, several as a list."""
    text = ", ".join(map(_scalar, names))
    return text if len(names) == 1 else f"[{text}]"


def _reference(reference: str, base: Path) -> str:
    """Return a path as the recipe writes it, relative to the recipe's folder."""
    if reference.startswith(REFERENCES):
        return reference
    path = Path(reference).expanduser()
    if path.is_absolute():
        return reference
    return Path(os.path.relpath(path, base)).as_posix()


def _scalar(value: str) -> str:
    """Return a string as YAML: plain if it cannot be misread, else quoted."""
    plain = PLAIN.fullmatch(value) and not value.endswith(":")
    if plain and value.lower() not in ("true", "false", "null"):
        return value
    return json.dumps(value, ensure_ascii=False)
