"""Knowledge injection: teach a pretrained body facts before it is trained on the task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from rarefy.pipeline.model.architectures.description import Config
from rarefy.pipeline.model.architectures.families import ARCHITECTURES
from rarefy.pipeline.sources import references as sources
from rarefy.pipeline.stage import Context, Draft, Policy
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.inject import facts as knowledge
from rarefy.stages.training import run as training
from rarefy.stages.training.parameters import Training

if TYPE_CHECKING:
    from rarefy.stages.inject.rows import InjectionRows


class Inject(Training):
    """Teach a pretrained body facts or glosses by masked-language-model training.

    Facts are turned into sentences ("spaniel is a kind of dog.") and whole terms are masked (ERNIE,
    Sun et al. 2019, arXiv 1904.09223; whole-word masking). Randomly masked text of the task is
    mixed in to keep the body from drifting away from the domain (Gururangan et al. 2020, arXiv
    2004.10964). Only the body is stored.

    A cloze probe (LAMA, Petroni et al. 2019, arXiv 1909.01066) asks for the object, or for the
    longest word of a gloss, before and after training. It asks for held-out facts (does the model
    generalize?) and for learned facts (did training work?). Held-out texts that read like a
    learned one are moved to the learned facts. A body improves at the probe from the style of the
    facts alone, whether or not they are true; the control ``shuffled`` measures by how much. From
    2700 glosses in two passes a small body learns little more than the style
    (``benchmarks/results/knowledge.json``).

    If the weights have no masked-language head, which is usual for sentence encoders, a new one is
    built with the decoder tied to the input embeddings. A new head predicts at random, so it is
    first trained alone, on the task's text with the body frozen. The probe "before" then measures
    what the body knew, not how little the head had learned.
    """

    name: ClassVar[str] = "inject"
    version: ClassVar[int] = 5
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER})
    produces: ClassVar[Kind | None] = Kind.ENCODER
    reads: ClassVar[frozenset[str]] = frozenset({"train", "unlabelled"})
    policy: ClassVar[Policy] = Policy(trains_all_weights=True)

    facts: str = Field(
        description="File of facts, TSV with a header or JSONL: subject, relation, object; or "
        "term, text"
    )
    templates: dict[str, str] = Field(
        default_factory=dict, description="Sentence for each relation, with {subject} and {object}"
    )
    held_out: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the facts held out for the probe"
    )
    text_share: float = Field(
        default=0.5, ge=0, lt=1, description="Share of the training rows that are text of the task"
    )
    head_epochs: int = Field(
        default=2, ge=1, le=100, description="Number of passes over the text that train a new head"
    )
    shuffled: bool = Field(
        default=False,
        description="Whether to train the control, in which each subject has the object of "
        "another, drawn at random within the relation",
    )

    @field_validator("templates")
    @classmethod
    def _templates_hold_both(cls, value: dict[str, str]) -> dict[str, str]:
        for template in value.values():
            knowledge.check_template(template)
        return value

    def files(self, base: Path) -> tuple[Path, ...]:
        return (sources.data_file(self.facts, base, "inject.facts"),)

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that transformers has a masked-language model of this type, and the templates."""
        kind = config.get("model_type")
        if kind not in ARCHITECTURES and not _fills_masks(kind):  # all described families do
            raise ModelError(f"inject: a model of type {kind!r} has no masked-language model")
        facts = knowledge.read(self.files(base)[0])
        if self.templates:
            knowledge.check_templates(self.templates, facts)
        return config

    def run(self, context: Context, model: Artifact) -> Draft:
        """Train on the facts, probe before and after, and save the body."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.inject import masked_lm
        from rarefy.stages.inject import rows as lessons

        facts = knowledge.read(self.files(context.base)[0])
        training.prepare(context)
        tokenizer = checkpoint.load_tokenizer(model.directory)
        if tokenizer.mask_token_id is None:
            raise ModelError("inject: the tokenizer has no mask token")
        network, head_is_new = masked_lm.open_model(model.directory)
        injection = lessons.prepare(
            context,
            tokenizer,
            facts,
            held_out=self.held_out,
            templates=self.templates,
            shuffled=self.shuffled,
        )
        loss = masked_lm.MaskedTokenLoss(network)
        if head_is_new:
            rows = injection.text_rows(self.head_epochs * len(injection.texts))
            masked_lm.train_head(context, self, network, tokenizer, rows, loss)
            del rows
        before = self._probe(context, network, tokenizer, injection, loss)
        rows = injection.rows(self.epochs, self.text_share)
        trained = training.train(context, self, network, tokenizer, rows, loss, epochs=1)
        after = self._probe(context, network, tokenizer, injection, loss)
        body, roles = masked_lm.save_body(network, tokenizer, model.directory, context.output)
        metrics = (
            trained.metric("masked_lm_loss"),
            *self._left_out(injection),
            *_metrics("before", before),
            *_metrics("after", after),
        )
        return Draft(roles, checkpoint.describe(body), metrics)

    def _left_out(self, injection: InjectionRows) -> list[Metric]:
        """Return how many of the learned facts the control does not teach."""
        if not self.shuffled:
            return []
        count = len(injection.learned)
        left_out = count - len(injection.taught)
        return [Metric(name="left_out_facts", value=left_out, n=count)]

    def _probe(
        self, context: Context, network: Any, tokenizer: Any, injection: InjectionRows, loss: Any
    ) -> dict[str, Any]:
        """Return the ranks of the masked tokens for held-out and for learned facts."""
        from rarefy.stages.inject import masked_lm

        ranks = {}
        for name in ("held_out", "learned"):
            rows = injection.probe_rows(name == "held_out")
            ranks[name] = masked_lm.probe(context, network, tokenizer, loss, rows)
        return ranks


def _metrics(when: str, ranks: dict[str, Any]) -> list[Metric]:
    """Return top-1, top-10 and mean reciprocal rank of each probe; n counts masked tokens."""
    metrics = []
    for name, rank in ranks.items():
        first, among_ten = rank == 1, rank <= 10
        reciprocal = 1 / rank.double()
        values = {
            "top1": first.double().mean(),
            "top10": among_ten.double().mean(),
            "mrr": reciprocal.mean(),
        }
        for key, value in values.items():
            metric = f"cloze_{name}_{key}_{when}"
            rounded = round(value.item(), 6)
            metrics.append(Metric(name=metric, value=rounded, n=len(rank)))
    return metrics


def _fills_masks(kind: Any) -> bool:
    """Return whether transformers has a masked-language model of a type. Imports torch."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
