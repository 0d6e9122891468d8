"""Adapters: train a few low-rank weights and the head while the body stays frozen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.stage import Context, Draft, Policy, StageCheck
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import BAG_OF_TOKENS
from rarefy.stages.quantization.plans import check_weights
from rarefy.stages.training import run as training
from rarefy.stages.training.parameters import Loss, Training

if TYPE_CHECKING:
    from rarefy.stages.training.rows import Rows

ALPHA, TEMPERATURE = 0.9, 2.0
"""Weight of a teacher's answers in the loss, and the temperature that softens them."""


class Adapt(Training):
    """Train low-rank adapters on the linear layers and the head; freeze all other weights.

    LoRA (Hu et al. 2022, arXiv 2106.09685) adds B·A, of rank ``rank``, scaled by alpha / rank, to
    each targeted layer. So a learning rate that suits one rank suits others. Adapters need a
    learning rate about ten times that of full fine-tuning. With a ``teacher``, its predictions make
    up nine tenths of the loss (Hinton et al. 2015, arXiv 1503.02531), which recovers accuracy lost
    to pruning or factorization. The adapter is stored next to the base weights until ``merge``
    folds it in. Without ``merge``, ``export`` writes it to a file next to the base, which adapters
    of other tasks share.
    """

    name: ClassVar[str] = "adapt"
    version: ClassVar[int] = 12
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.ADAPTER
    libraries: ClassVar[tuple[str, ...]] = (*Training.libraries, "numpy", "peft")
    policy: ClassVar[Policy] = Policy(quantization="keeps")

    rank: int = Field(default=8, ge=1, le=1024, description="Rank of each update")
    alpha: float = Field(
        default=16, gt=0, description="Scale of each update, which is multiplied by alpha / rank"
    )
    dropout: float = Field(
        default=0.05, ge=0, lt=1, description="Dropout rate on the adapters' inputs"
    )
    modules: Literal["attention", "all-linear"] = Field(
        default="all-linear", description="Linear layers of the encoder that get an adapter"
    )
    teacher: str | None = Field(
        default=None, description="ID of an earlier stage whose predictions are the training target"
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, lt=1, description="Peak learning rate, after warm-up"
    )

    def references(self) -> dict[str, str]:
        return {"teacher": self.teacher} if self.teacher else {}

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if nothing is to be learned, or the plan's weights may not change."""
        task = recipe.task
        has_no_targets = task.unlabelled and "train" not in task.reader.self_labelled
        if self.teacher is None and has_no_targets:
            raise RecipeError(
                f"teacher is missing: without it, {task.name} cannot be trained on texts alone; "
                "write 'teacher: model'"
            )
        check_weights(recipe.planner)

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that there are layers for adapters: attention's, if only they get one."""
        from rarefy.pipeline.model.architectures import parts

        if config.get("model_type") == BAG_OF_TOKENS:
            raise ModelError(
                "adapt: a student without attention has no layers for adapters; train it with "
                "'distill' or 'finetune'"
            )
        if self.modules == "attention":
            try:
                parts.named(config)
            except ModelError as error:
                raise ModelError(f"adapt.modules: {error}; write 'all-linear' instead") from error
        return config

    def run(self, context: Context, model: Artifact) -> Draft:
        """Attach and train the adapter, and save it with the base's unchanged files."""
        import peft

        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.training import head_start

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        roles = _copy_base(context, model, network, tokenizer)
        head_start.fit_new_head(context, model, network, tokenizer)
        if self.teacher is not None:
            training.stop_dropout(network)  # the adapters have a dropout of their own
        config = self.configuration(network)
        layers = len(config.target_modules)  # peft shortens the list
        adapted = peft.get_peft_model(network, config)
        trainable, _ = adapted.get_nb_trainable_parameters()
        rows, loss = self._rows_and_loss(context, adapted, tokenizer)
        trained = training.train(context, self, adapted, tokenizer, rows, loss)
        roles |= save_adapter(adapted, context.output / checkpoint.ADAPTER)
        adapter = {
            "rank": self.rank,
            "layers": layers,
            "trainable": trainable,
        }
        facts = checkpoint.describe(network) | {"adapter": adapter}
        return Draft(roles, facts, (trained.metric(),))

    def configuration(self, network: Any) -> Any:
        """Return peft's configuration of the adapters for a network."""
        import peft

        return peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=adapted_layers(network, self.modules),
            modules_to_save=head_modules(network),
        )

    def _rows_and_loss(self, context: Context, adapted: Any, tokenizer: Any) -> tuple[Rows, Loss]:
        """Return what is learned: the labelled rows, or a teacher's answers to them.

        Args:
            context: of the stage.
            adapted: the network with its adapters.
            tokenizer: the network's.
        """
        split = context.split("train")
        if self.teacher is None:
            loss = context.task.objective.training_loss()
            return training.lessons(context, tokenizer, split), loss
        from rarefy.stages.teachers import outputs as teaching

        rows = training.labelled_rows(context, tokenizer, split, numbered=True)
        outputs = teaching.answers(context, context.artifacts[self.teacher])
        (fitted,) = teaching.goals(context, adapted, tokenizer, rows, outputs)
        loss = teaching.imitation(context.task, fitted, alpha=ALPHA, temperature=TEMPERATURE)
        return rows, loss


def adapted_layers(network: Any, modules: str) -> list[str]:
    """Return the full names of the encoder's linear layers: all of them, or attention's only.

    In a family that is not described, these are all of the body but its pooler. A factorized layer
    counts as its two narrow layers. Raises ModelError if no layer matches.
    """
    from torch import nn

    inside: set[int] = set()
    for root in _roots(network, modules):
        inside.update(id(module) for module in root.modules())
    names = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and id(module) in inside:
            names.append(name)
    if not names:
        raise ModelError(f"adapt.modules: the model has no linear layers that match {modules!r}")
    return names


def _roots(network: Any, modules: str) -> list[Any]:
    """Return the modules that contain the targeted linear layers."""
    from rarefy.pipeline.model.architectures import parts
    from rarefy.pipeline.model.architectures.families import ARCHITECTURES

    if modules == "all-linear" and network.config.model_type not in ARCHITECTURES:
        body = parts.body(network)
        return [module for name, module in body.named_children() if name != "pooler"]
    layers, heads = parts.encoder_layers(network), parts.of(network).heads
    if modules == "all-linear":
        return list(layers)
    roots = []
    for layer in layers:
        paths = [maker.path for maker in parts.makers(layer, heads)]
        for path in (*paths, heads.reader):
            roots.append(layer.get_submodule(path))
    return roots


def head_modules(network: Any) -> list[str]:
    """Return the names of the modules between the encoder's layers and the logits: pooler, head.

    They are trained in full, because a newly initialized head has nothing to adapt. A body that
    was pretrained without a pooler gets a new one too. A body without a head has none of them.
    """
    if network.base_model is network:
        return []
    prefix = network.base_model_prefix
    names = []
    for name, module in network.named_children():
        if name != prefix and list(module.parameters()):
            names.append(name)
    if getattr(network.base_model, "pooler", None) is not None:
        names.append(f"{prefix}.pooler")
    return names


def _copy_base(context: Context, model: Artifact, network: Any, tokenizer: Any) -> dict[str, str]:
    """Write the base to the output: copy a checkpoint's files, or save an encoder with its head."""
    from rarefy.pipeline.model import checkpoint

    if model.kind is Kind.ENCODER:
        return checkpoint.save(network, tokenizer, context.output)
    roles = {}
    for entry in model.manifest.files:
        path = context.output / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.directory / entry.path, path)
        roles[entry.path] = entry.role
    return roles


def save_adapter(adapted: Any, directory: Path) -> dict[str, str]:
    """Write the adapter's weights and config, with identical bytes for identical adapters."""
    adapted.save_pretrained(str(directory), save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)  # peft's empty model card template
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = None  # a path on this machine
    config["target_modules"] = sorted(config["target_modules"])  # a set has no fixed order
    text = json.dumps(config, indent=2, sort_keys=True)
    path.write_text(text + "\n")
    names = ("adapter_config.json", "adapter_model.safetensors")
    return {f"{directory.name}/{name}": "adapter" for name in names}
