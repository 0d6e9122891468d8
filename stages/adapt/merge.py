"""Merge: fold a trained adapter into the weights, or average fine-tunes of one start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.stage import Context, Draft, Policy, Requirements, Stage, StageCheck
from rarefy.pipeline.store.artifact import MODELS, Artifact, Kind, Metric
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.task import Row, inputs_of
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import Name
from rarefy.stages.adapt import fine_tunes
from rarefy.stages.common.bundle_targets import symmetric
from rarefy.stages.quantization.plans import check_weights
from rarefy.stages.training.parameters import refuse_unread

if TYPE_CHECKING:
    from torch import Tensor

    from rarefy.pipeline.model.quantization.plan import Calibration, Plan

TOLERANCE = 1e-4
"""Of the largest raw output, how far merged outputs may be from unmerged ones."""
ROWS = 32
"""Training rows on which both are compared."""
MEMBER = "models"
"""The role of models that are averaged."""


class Merge(Stage):
    """Make one model of several: fold an adapter into its base, or average fine-tunes of one start.

    An adapter is added to the base weights, W + scale·BA, which removes its cost at run time (Hu et
    al. 2021, arXiv 2106.09685). The predictions stay the same: merged and unmerged logits are
    compared on real rows, and a difference of more than 1e-4 of the largest (or of 1) is an error.
    A quantization plan is retained. The adapter has changed the inputs of the layers, so static
    ranges are determined again.

    With ``models``, the result is the mean of their weights (Wortsman et al. 2022, arXiv
    2203.05482). It is as small and as fast as one of them. The models may differ in seed, epochs or
    learning rate, but must have the same architecture, vocabulary and labels, and descend from one
    start, head included.
    """

    name: ClassVar[str] = "merge"
    version: ClassVar[int] = 7
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    libraries: ClassVar[tuple[str, ...]] = (*Stage.libraries, "numpy", "peft")

    models: tuple[Name, ...] = Field(
        default=(),
        description="IDs of the earlier stages whose models are averaged; default: none, and the "
        "input's adapter is folded in",
    )
    method: Literal["soup", "greedy"] = Field(
        default="greedy",
        description="Which models to average: all (soup), or the best one and each further one "
        "that does not lower the mean's main score on the development split (greedy)",
    )

    @model_validator(mode="after")
    def _has_several_models(self) -> Merge:
        refuse_unread(self, ("method",), "models")
        if len(self.models) == 1 or len(set(self.models)) < len(self.models):
            raise ValueError("'models' must name at least two different stages")
        return self

    @property
    def policy(self) -> Policy:
        """An adapter keeps its plan; means do not depend on the stage's input or on a seed."""
        if not self.models:
            return Policy(quantization="keeps")
        return Policy(reads_input=False, seeded=False, needs={MEMBER: Kind.CHECKPOINT})

    @property
    def consumes(self) -> frozenset[Kind]:
        """An adapter; beside ``models``, any model but a bundle."""
        if self.models:
            return MODELS - {Kind.BUNDLE}
        return frozenset({Kind.ADAPTER})

    @property
    def reads(self) -> frozenset[str]:
        """The rows on which an adapter is compared, or on which models are chosen."""
        if not self.models:
            return Stage.reads
        return frozenset({"dev"}) if self.method == "greedy" else frozenset()

    def references(self) -> dict[str, str]:
        return {f"{MEMBER}:{name}": name for name in self.models}

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if the plan's weights may not change, or no labels can choose."""
        if not self.models:
            check_weights(recipe.planner)
        elif self.method == "greedy" and _lacks_labels(recipe):
            raise RecipeError("method: greedy chooses on labelled rows; write soup")

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the models have one family, depth and width; return the first's config."""
        if not self.models:
            return config
        models = {name: references[f"{MEMBER}:{name}"] for name in self.models}
        fine_tunes.check_configs(models)
        return models[self.models[0]]

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return the form of an adapter's static ranges, if it is not the usual one."""
        if self.models:
            return {}
        return {"ranges": "symmetric"} if symmetric(requirements.targets) else {}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Write the merged checkpoint."""
        if self.models:
            models = {name: context.artifacts[name] for name in self.models}
            return fine_tunes.merge(context, models, greedy=self.method == "greedy")
        adapted = checkpoint.load(model.directory)
        if not hasattr(adapted, "merge_and_unload"):
            raise ModelError(f"merge: {model.short} has no adapter to merge")
        tokenizer = checkpoint.load_tokenizer(model.directory)
        split = context.split("train")
        rows = context.task.encoder.examples(tokenizer, split, range(min(ROWS, len(split))))
        merged, difference = _merge(context, adapted, rows)
        roles = checkpoint.save(merged, tokenizer, context.output)
        plan = quantization.read(model.directory)
        if plan is not None and plan.calibration is not None:
            plan = _calibrate(context, plan, plan.calibration, merged, tokenizer)
            quantization.write(plan, context.output)
        metric = Metric(name="merge_difference", split="train", value=difference, n=len(rows))
        return Draft(roles=roles, model=checkpoint.describe(merged), metrics=(metric,))


def _lacks_labels(recipe: StageCheck) -> bool:
    """Return whether the development rows have no labels, as far as that is known."""
    if recipe.task.unlabelled:
        return True
    return recipe.opened is not None and recipe.opened.rows()["dev"].labels is None


def _merge(context: Context, adapted: Any, rows: Sequence[Row]) -> tuple[Any, float]:
    """Return the merged network, and how far its outputs for some rows are from the adapter's.

    Raises ModelError if that is more than ``TOLERANCE`` of the largest output (or of 1).
    """
    import torch

    feeds = []
    for row in rows:
        feeds.append({key: torch.tensor([value]) for key, value in row.items()})
    with torch.no_grad():
        context.progress(0, 2, "running the model with its adapter")
        before = _raw_outputs(context.task, adapted, feeds)
        merged = adapted.merge_and_unload(safe_merge=True).eval()
        context.progress(1, 2, "running the merged model")
        after = _raw_outputs(context.task, merged, feeds)
    largest = max(float(outputs.abs().max()) for outputs in before)
    limit = TOLERANCE * max(1.0, largest)
    differences = [(old - new).abs().max() for old, new in zip(before, after, strict=True)]
    difference = float(torch.stack(differences).max())
    if not difference <= limit:  # NaN is not
        raise ModelError(
            f"merge: merged and unmerged logits differ by {difference:.2g}; "
            f"at most {limit:.2g} is allowed"
        )
    return merged, difference


def _raw_outputs(task: Task, model: Any, feeds: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    """Return what an exported graph would give for each feed, (units, width)."""
    outputs = []
    for feed in feeds:
        result = model(**inputs_of(feed))
        outputs.append(task.head.graph_output(result, feed, model.config))
    return outputs


def _calibrate(
    context: Context, plan: Plan, how: Calibration, network: Any, tokenizer: Any
) -> Plan:
    """Return a plan with the static ranges of this network's layers.

    Args:
        context: of the stage.
        plan: that of the network before its adapter was merged.
        how: the plan's calibration.
        network: the merged one.
        tokenizer: the network's.
    """
    from rarefy.stages.quantization import ranges

    rows = ranges.rows(context, tokenizer, "train", how.rows)
    layers = plan.integer_layers
    static = [name for name, layer in layers.items() if layer.low is not None]
    factors = {name: layer.factors for name, layer in layers.items() if layer.factors}
    limits = ranges.measure(network, static, rows, how, context.progress, factors)
    widen = symmetric(context.targets)
    for name, limit in limits.items():
        if widen:
            limit = ranges.widened(limit)
        layers[name] = layers[name].model_copy(update=limit._asdict())
    return plan.model_copy(update={"linears": plan.linears | layers})
