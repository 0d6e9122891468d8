"""Whether a recipe's stages fit each other, its task, its data and its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rarefy.pipeline import tasks
from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.recipe.recipe import MODEL, LoadedRecipe, Step
from rarefy.pipeline.stage import Opened, Stage, StageCheck, located_model
from rarefy.pipeline.stage.located_model import Located
from rarefy.pipeline.store.artifact import HEADED, MODELS, Kind
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import ModelError, RecipeError

TEACHER: Final = "teacher"
"""The role of models whose answers are learned, so that they must have the task's head."""


def check_known(loaded: LoadedRecipe) -> None:
    """Raise RecipeError if there is no such task."""
    try:
        tasks.find(loaded.recipe.task)
    except RecipeError as error:
        raise loaded.where.say(("task",), str(error)) from error


def check_windows(loaded: LoadedRecipe, task: Task) -> None:
    """Raise RecipeError if the recipe wants windows of long texts, and the task has none."""
    data = loaded.recipe.data
    reason = None
    if task.encoder.no_windows:
        reason = f"{task.name}: {task.encoder.no_windows}"
    elif len(data.text_columns) > 1:
        reason = "a pair of texts has no windows"
    if data.long_texts == "windows" and reason is not None:
        raise loaded.where.say(("data", "long_texts"), f"{reason}; leave it out")


def check_model(loaded: LoadedRecipe, located: Located, task: Task) -> None:
    """Raise RecipeError if the recipe's model cannot read its texts.

    That is so if its table of positions is too short, or if embeddings would be others than the
    model's, because it reads texts in another way.
    """
    longest = loaded.recipe.data.max_length
    positions = located.positions
    if positions is not None and longest > positions:
        problem = f"{longest} tokens, but the model has positions for only {positions}"
        raise loaded.where.say(("data", "max_length"), problem)
    if task.head.body_only and located.other_texts is not None:
        raise loaded.where.say(("model",), located.other_texts)


def check_stages(loaded: LoadedRecipe, task: Task) -> None:
    """Let each stage check its parameters against the rest of the recipe.

    Nothing but the recipe is needed: neither its model nor its data are opened. Raises RecipeError
    with the stage's file and line if a parameter does not fit.
    """
    kinds = _declared_kinds(loaded)
    planners = follow_plans(loaded, kinds)
    earlier: dict[str, Stage] = {}
    for step in loaded.steps:
        stage_check = StageCheck(
            task=task,
            max_length=loaded.recipe.data.max_length,
            targets=loaded.recipe.targets,
            stages=dict(earlier),
            planner=_planner(loaded, step, planners),
            exporter=_exporter(loaded, step, kinds, planners),
            input=kinds[step.input],
        )
        loaded.call(step.stage.check, stage_check, check=True)
        earlier[step.id] = step.stage


def check_opened(
    loaded: LoadedRecipe, step: Step, earlier: Mapping[str, Stage], opened: Opened
) -> None:
    """Let a stage that will run check its parameters against the model and the data.

    Args:
        loaded: the recipe.
        step: of the stage.
        earlier: the stages before it, by id.
        opened: what is known of the model and the data.

    Raises:
        RecipeError: a parameter does not fit; names the stage's file and line.
    """
    data, targets = loaded.recipe.data, loaded.recipe.targets
    stage_check = StageCheck(opened.task, data.max_length, targets, earlier, opened=opened)
    loaded.call(step.stage.check, stage_check, check=True)


def _declared_kinds(loaded: LoadedRecipe) -> dict[str, Kind]:
    """Return the kinds of all outputs, by step id, as the stages declare them.

    Whether the recipe's model has a head, which its files and the data decide, is not known here.
    """
    kinds = {MODEL: Kind.CHECKPOINT}
    for step in loaded.steps:
        kinds[step.id] = step.stage.produces or kinds[step.input]
    return kinds


def _planner(loaded: LoadedRecipe, step: Step, planners: Mapping[str, str | None]) -> Stage | None:
    """Return the stage whose quantization plan a step keeps; None if it keeps none."""
    planner = planners[step.id]
    if planner is None or planner == step.id:
        return None
    return loaded.step(planner).stage


def _exporter(
    loaded: LoadedRecipe,
    step: Step,
    kinds: Mapping[str, Kind],
    planners: Mapping[str, str | None],
) -> Stage | None:
    """Return the stage that makes a step's input, if that is a bundle with a plan; else None."""
    if kinds[step.input] is not Kind.BUNDLE or planners[step.input] is None:
        return None
    return loaded.step(step.input).stage


def check_positions(loaded: LoadedRecipe, configs: Mapping[str, Config]) -> None:
    """Raise RecipeError if a stage makes a model whose table of positions is too short.

    A student that is pretrained has a table of its own.

    Args:
        loaded: the recipe.
        configs: what is known of the config of each step's model, by the step's id.
    """
    longest = loaded.recipe.data.max_length
    for step in loaded.steps:
        positions = located_model.positions(configs[step.id])
        if positions is not None and longest > positions:
            raise loaded.error(
                step,
                f"its model has positions for only {positions} tokens, but data.max_length is "
                f"{longest}",
            )


def follow_configs(loaded: LoadedRecipe, first: Mapping[str, Config]) -> dict[str, Config]:
    """Follow the model's family and number of layers along the chain.

    Args:
        loaded: the recipe.
        first: the config of the recipe's model, under its id.

    Returns:
        What is known of the config of each step's model, by the step's id.

    Raises:
        RecipeError: a stage cannot work on such a model; names the stage's file and line.
    """
    configs = dict(first)
    for step in loaded.steps:
        references = {role: configs[name] for role, name in step.stage.references().items()}
        config = configs[step.input]
        try:
            configs[step.id] = loaded.call(step.stage.follow_model, config, references, loaded.base)
        except ModelError as error:
            raise loaded.error(step, str(error)) from error
    return configs


def follow_kinds(loaded: LoadedRecipe, first: Mapping[str, Kind]) -> dict[str, Kind]:
    """Follow the kinds of artifacts along the chain.

    Args:
        loaded: the recipe.
        first: the kind of the recipe's model, under its id.

    Returns:
        The kind of each step's output, by the step's id.

    Raises:
        RecipeError: a stage cannot take what an earlier step makes.
    """
    kinds = dict(first)
    for step in loaded.steps:
        stage = step.stage
        input_kind = kinds[step.input]
        if input_kind not in stage.consumes:
            raise loaded.error(step, _wrong_input(step, input_kind))
        for role, name in stage.references().items():
            problem = _wrong_reference(stage, role, name, kinds)
            if problem is not None:
                raise loaded.error(step, f"{role}: {problem}")
        kinds[step.id] = stage.produces or input_kind
    return kinds


def follow_plans(loaded: LoadedRecipe, kinds: Mapping[str, Kind]) -> dict[str, str | None]:
    """Return for each step the id of the step whose plan its output carries; None if no plan.

    A bundle implements the plan, so steps after it have none.
    """
    planners: dict[str, str | None] = dict.fromkeys(kinds)
    for step in loaded.steps:
        quantization_policy = step.stage.policy.quantization
        if quantization_policy == "plans":
            planners[step.id] = step.id
        elif quantization_policy == "keeps" and kinds[step.id] in MODELS:
            planners[step.id] = _planner_of_input(step, kinds, planners)
    return planners


def check_plans(loaded: LoadedRecipe, kinds: Mapping[str, Kind]) -> None:
    """Raise RecipeError if a step would lose the plan of its input."""
    planners = follow_plans(loaded, kinds)
    for step in loaded.steps:
        planner = _planner_of_input(step, kinds, planners)
        is_model = kinds[step.id] in MODELS
        if planner and is_model and step.stage.policy.quantization == "loses":
            problem = f"would lose the quantization plan of {planner!r}; move {planner!r} after it"
            raise loaded.error(step, problem)


def _planner_of_input(
    step: Step, kinds: Mapping[str, Kind], planners: Mapping[str, str | None]
) -> str | None:
    """Return the id of the step whose plan a step gets with its input; None if there is none."""
    if kinds[step.input] is Kind.BUNDLE:
        return None
    return planners[step.input]


def _wrong_input(step: Step, kind: Kind) -> str:
    """Return why a step cannot take an input of a kind, and the usual fix."""
    consumed = " or ".join(sorted(_a(other) for other in step.stage.consumes))
    remedy = _remedy(kind, step.stage, step.input)
    return f"takes {consumed}, but {step.input!r} makes {_a(kind)}{remedy}"


def _wrong_reference(stage: Stage, role: str, name: str, kinds: Mapping[str, Kind]) -> str | None:
    """Return why a stage cannot use an earlier step in a role; None if it can.

    Args:
        stage: the stage that names the step.
        role: the role in ``Stage.references``, such as ``teacher`` or ``teacher:2``.
        name: the id of the earlier step.
        kinds: the kinds of the outputs of the earlier steps, by id.
    """
    if name == MODEL and kinds[MODEL] is Kind.ENCODER:
        return "the recipe's model has no head for the task"
    kind = kinds[name]
    required = _required(stage, role.partition(":")[0], kind)
    if required is None:
        return None
    return f"{name!r} makes {_a(kind)}, not {required}"


def _required(stage: Stage, role: str, kind: Kind) -> str | None:
    """Return in words what a role of a stage needs if that is another kind, else None."""
    required = stage.policy.needs.get(role)
    if required is not None:
        return None if kind is required else _a(required)
    if role == TEACHER:
        return None if kind in HEADED else "a model with a head"
    return "a model" if kind is Kind.TRANSFER_SET else None


def _a(kind: Kind) -> str:
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{article} {kind}"


def _remedy(kind: Kind, stage: Stage, maker: str) -> str:
    """Return the usual fix for a wrong order, to end the error message.

    Args:
        kind: the kind of the input.
        stage: the stage that cannot take it.
        maker: the id of the step that makes it.
    """
    if kind is Kind.ADAPTER:
        return "; put 'merge' between them"
    if stage.consumes == {Kind.ADAPTER}:
        return "; put 'adapt' before it"
    if kind is Kind.ENCODER:
        remedy = "; put 'finetune' before it"
        if maker == MODEL:
            remedy += "; a head of its own is used if it is the task's and has the data's labels"
        return remedy
    if stage.consumes == {Kind.BUNDLE}:
        return "; put 'export' before it"
    return "; give it another input with 'from'"
