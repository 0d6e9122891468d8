"""How long steps will take: as long as their last runs here, or by the arithmetic of their models.

What the last run of a step took, seconds and peak memory, is kept in the store.

A row costs two operations for each weight of the layers and each of its tokens, and three times as
many if the model learns from it (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). The machine's
speed is that of a matrix product, timed once and kept in the store. What depends on kernels,
padding, batches and other load is left out: steps of MiniLM and BERT-base that took 15 s or more on
two cores took 0.6 to 2.2 times as long. Constants here and in ``flows/workloads.py`` were fitted to
most of these runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, Field

from rarefy.pipeline.measure import machine
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.recipe.recipe import MODEL
from rarefy.pipeline.run.plan import check_chain
from rarefy.pipeline.run.plan.plan import Plan, Planned
from rarefy.pipeline.stage import Stage
from rarefy.pipeline.store.artifact import MODELS, Artifact
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import ModelError

HOW: Final = (
    "estimated by the sizes of model and data and the speed of a matrix product here; half or "
    "twice as long is possible"
)
EFFICIENCY: Final = 0.45
"""Speed of training in fp32 as a share of the product's."""
BF16: Final = 2.0
"""How many times faster training is where the CPU multiplies bfloat16."""
BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})
LEARNED: Final = 3
"""Passes that a row costs from which a model learns: forward, and backward as much as two."""
START: Final = 3.0
"""Seconds to load the libraries and the model, and to save."""
BYTES: Final = 4.5
"""UTF-8 bytes a token, of English and WordPiece; 3 to 6 for other languages and tokenizers."""
SPECIAL: Final = 2
"""Tokens around a text, such as [CLS] and [SEP]."""
SAMPLE: Final = 500
"""Rows whose lengths are looked at."""
SHAPE: Final = (128, 384, 1536)
"""Of the product: so small that some are not interrupted on a busy machine."""
TIMED: Final = 0.3
"""Seconds for which products are timed; the fastest counts, as it had its core to itself."""

LONG = 30
"""Characters of a value that is not shown where it has changed, such as a digest."""


class _Tokens(BaseModel):
    """The note of a training row's tokens."""

    mean: float = Field(gt=0, allow_inf_nan=False)


class _Speed(BaseModel):
    """The note of this machine's operations a second."""

    speed: float = Field(gt=0, allow_inf_nan=False)


@dataclass(frozen=True)
class Workload:
    """About how much a step computes.

    ``learned``  rows that its output learns from, over all epochs
    ``answered`` rows that its input answers
    ``made``     rows of the transfer set that it makes, in training rows of the same length; None
                 if it makes none
    ``share``    of the weights in each layer of its input, how many its output keeps
    ``seconds``  that it takes besides, whatever the model
    """

    learned: float = 0.0
    answered: float = 0.0
    made: float | None = None
    share: float = 1.0
    seconds: float = 0.0


class Estimates(NamedTuple):
    """By step: about how many seconds it takes, and the weights in its model's layers.

    Left out is what is not known: models whose weights are not in safetensors, and all on a GPU.
    """

    seconds: dict[str, float]
    weights: dict[str, float]


def of_steps(
    plan: Plan,
    steps: Sequence[Planned],
    workload_of: Callable[[Stage, Mapping[str, float]], Workload | None],
) -> Estimates:
    """Return how long the steps will take that are not cached, and how large all models are.

    The first call on a machine times a matrix product for a third of a second.

    Args:
        plan: the plan.
        steps: its steps.
        workload_of: gets a stage and the rows of splits and earlier transfer sets, by name; returns
            how much the stage computes, None if that is not known.
    """
    if plan.device != "cpu":
        return Estimates({}, {})
    configs = check_chain.follow_configs(plan.loaded, {MODEL: plan.located.config})
    rows: dict[str, float] = dict(plan.summary.rows)
    weights: dict[str, float | None] = {}
    found = Estimates({}, {})
    for step in steps:
        workload = workload_of(step.stage, rows)
        if workload is not None and workload.made is not None:
            rows[step.id] = workload.made
        share = 1.0 if workload is None else workload.share
        before, after = _weights(plan, step, weights, share, configs)
        weights[step.id] = after
        if after is not None:
            found.weights[step.id] = after
        if step.cached or workload is None:
            continue
        operations = _operations(workload, before, after)
        if operations is None:
            continue
        found.seconds[step.id] = START + workload.seconds
        if operations:
            found.seconds[step.id] += _seconds(plan, operations)
    return found


def seconds_of_row(plan: Plan, weights: float) -> float:
    """Return the seconds in which a model of so many weights in its layers answers a row."""
    return _seconds(plan, 2 * weights)


def _seconds(plan: Plan, operations: float) -> float:
    """Return the seconds that so many operations take for each token of a training row."""
    return operations * _tokens(plan) / (EFFICIENCY * _speed(plan))


def _operations(workload: Workload, before: float | None, after: float | None) -> float | None:
    """Return the operations for each token of a row; None if a model's size is not known.

    ``before``, ``after``: the weights in the layers of the step's input and of its output.
    """
    total = 0.0
    for weights, passes in ((before, workload.answered), (after, LEARNED * workload.learned)):
        if passes and weights is None:
            return None
        total += 2 * passes * (weights or 0.0)
    return total


def _weights(
    plan: Plan,
    step: Planned,
    weights: Mapping[str, float | None],
    share: float,
    configs: Mapping[str, Config],
) -> tuple[float | None, float | None]:
    """Return how many weights the layers of a step's input and of its output have, if known.

    Args:
        plan: the plan.
        step: the step.
        weights: those of the outputs of earlier steps, by id.
        share: how many of its input's a step keeps in each layer.
        configs: of each step's model, by id.
    """
    if step.id == MODEL:
        count = layer_weights(plan.located.weights, plan.located.config)
        return count, count
    source = plan.loaded.step(step.id).input
    before = weights[source]
    if step.artifact is not None and step.kind in MODELS:
        return before, _stored_weights(step.artifact)
    own = [path for path in step.stage.files(plan.loaded.base) if path.suffix == ".safetensors"]
    if own:  # it starts from another model
        return before, layer_weights(own, configs[step.id])
    if before is None:
        return None, None
    depth, depth_before = parts.depth(configs[step.id]), parts.depth(configs[source])
    if depth and depth_before:
        share *= depth / depth_before
    return before, share * before


def _stored_weights(artifact: Artifact) -> float | None:
    names = [file.path for file in artifact.manifest.files if file.role == "weights"]
    try:
        config = json_text.foreign(artifact.directory / "config.json", dict[str, Any])
    except ModelError:
        return None
    return layer_weights([artifact.directory / name for name in names], config)


def layer_weights(files: Iterable[Path], config: Config) -> float | None:
    """Return how many weights a token is multiplied with: those of matrices, without vocabulary.

    Returns None if a file is not in safetensors, or damaged, which is an error of the run. Layers
    that share weights count each time.
    """
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in files:
        if path.suffix != ".safetensors":
            return None
        try:
            with safe_open(path, framework="np") as file:
                shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        for shape in shapes:
            if len(shape) == 2 and shape[0] != config.get("vocab_size"):
                total += shape[0] * shape[1]
    groups = config.get("num_hidden_groups")  # of ALBERT
    return total * (parts.depth(config) or 1) / groups if groups else total


def _tokens(plan: Plan) -> float:
    """Return about how many tokens a training row has; kept in the store."""
    longest = plan.loaded.recipe.data.max_length
    key = f"tokens-{value_sha256([plan.data_digest, plan.loaded.recipe.task, longest])}"
    note = plan.store.note(key, _Tokens)
    if note is not None:
        return float(note.mean)
    train = plan.rows["train"]
    places = train.evenly(SAMPLE)
    total = 0.0
    for place in places:
        text = _text(train.texts[place])
        if train.pairs is not None:
            text += _text(train.pairs[place])
        total += min(longest, SPECIAL + len(text.encode(errors="replace")) / BYTES)
    mean = total / max(len(places), 1)
    plan.store.keep_note(key, {"mean": mean})
    return mean


def _text(row: Any) -> str:
    """Return a row's text, which may be given as words."""
    return row if isinstance(row, str) else " ".join(row)


def _speed(plan: Plan) -> float:
    """Return the operations a second of a plan's threads; timed once, kept in the store."""
    facts = machine.fingerprint()
    key = f"product-{machine.digest(facts)}"
    note = Store.note(plan.store, key, _Speed)  # of this machine, so no shared store's
    if note is None:
        note = _Speed(speed=product_speed())
        Store.keep_note(plan.store, key, note.model_dump())
    cores = min(plan.threads, int(facts["cores"]["physical"]))
    speed: float = cores * note.speed
    if not BF16_FLAGS.isdisjoint(facts["flags"]):
        speed *= BF16
    return speed


def product_speed() -> float:
    """Return the operations a second of the fastest of many matrix products in fp32, on a core.

    More threads would wait for each other on a busy machine, ten times as long as they compute.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    rows, width, inner = SHAPE
    generator = np.random.default_rng(0)
    left = generator.random((rows, width), dtype=np.float32)
    right = generator.random((width, inner), dtype=np.float32)
    fastest = float("inf")
    with threadpool_limits(1):
        end = time.perf_counter() + TIMED
        while time.perf_counter() < end:
            began = time.perf_counter()
            left @ right
            fastest = min(fastest, time.perf_counter() - began)
    return 2 * rows * width * inner / fastest


@dataclass(frozen=True)
class LastRun:
    """The last run of a step, or of its stage as another step.

    ``seconds`` are those of the work alone. ``memory`` is that of the largest process at its peak
    in bytes, without a GPU's. ``parameters`` is a digest of the stage's parameters.
    ``dependencies``: all that its output depended on, by dotted name. ``lasts``: see
    ``Draft``.
    """

    recipe: str
    step: str
    seconds: float
    memory: int
    parameters: str
    dependencies: dict[str, str] = field(default_factory=dict)
    lasts: bool = True


def keep_run(
    plan: Plan,
    identifier: str,
    seconds: float,
    memory: int,
    dependencies: dict[str, Any] | None = None,
    *,
    lasts: bool = True,
) -> None:
    """Note what a step has just taken, in place of its run before and of its stage's.

    It is true of this machine alone, so it bypasses a store that is shared or trusts no notes.

    Args:
        plan: the plan of the run.
        identifier: the id of the step.
        seconds: the seconds that the step's work took.
        memory: the peak memory in bytes.
        dependencies: all that its output depends on (``Plan.dependencies``).
        lasts: whether the result is reused.
    """
    recipe = plan.loaded.recipe.name
    parameters = _parameters(plan.stage_of(identifier))
    flat = machine.flat(dependencies or {})
    run = LastRun(recipe, identifier, seconds, memory, parameters, flat, lasts)
    for key in _keys(plan, identifier):
        Store.keep_note(plan.store, key, asdict(run))


def last_run(plan: Plan, identifier: str) -> LastRun | None:
    """Return the last run of a step of this recipe, or else of its stage in any recipe.

    Returns None if the stage has not run on this machine, with this device and number of threads.
    """
    for key in _keys(plan, identifier):
        run: LastRun | None
        run = Store.note(plan.store, key, LastRun)
        if run is not None:
            return run
    return None


def is_of_step(plan: Plan, identifier: str, run: LastRun) -> bool:
    """Return whether it was the run of this step of this recipe."""
    return run.recipe == plan.loaded.recipe.name and run.step == identifier


def changes_since(run: LastRun, dependencies: dict[str, Any]) -> list[str]:
    """Return what has changed since a run, one phrase each, such as ``libraries.torch: 2.1 → 2.2``.

    Of what is a digest or long, only the name is said.

    Args:
        run: the last run of a step of this recipe.
        dependencies: all that the step's output depends on now (``Plan.dependencies``).
    """
    now = machine.flat(dependencies)
    if not run.dependencies:  # of an earlier version, which did not note them
        return []
    phrases = []
    for name in run.dependencies | now:
        old, new = run.dependencies.get(name, "none"), now.get(name, "none")
        if old == new:
            continue
        if max(len(old), len(new)) > LONG:
            phrases.append(name)
        else:
            phrases.append(f"{name}: {old} → {new}")
    return phrases


def origin_of(plan: Plan, identifier: str, run: LastRun) -> str:
    """Return which step's run it was: ``this step``, or the name of another recipe's step."""
    if not is_of_step(plan, identifier, run):
        return f"{run.step} of {run.recipe}"
    if run.parameters != _parameters(plan.stage_of(identifier)):
        return "this step, other parameters"
    return "this step"


def _keys(plan: Plan, identifier: str) -> tuple[str, str]:
    """Return the keys of the notes of a step of this recipe, and of its stage in any recipe."""
    place = {
        "stage": plan.stage_of(identifier).name,
        "machine": machine.digest(machine.fingerprint()),
        "device": plan.device,
        "threads": plan.threads,
    }
    step = place | {"recipe": plan.loaded.recipe.name, "step": identifier}
    return f"took-{value_sha256(step)}", f"took-{value_sha256(place)}"


def _parameters(stage: Stage) -> str:
    return value_sha256(stage.model_dump(mode="json"))
