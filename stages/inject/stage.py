"""Knowledge injection: teach a pretrained body facts before it is trained on the task."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.sources import references as sources
from rarefy.pipeline.stage import Context, Draft, Policy, StageCheck
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.terms.errors import DataError, RecipeError
from rarefy.stages.inject import facts as knowledge
from rarefy.stages.inject.facts import Fact
from rarefy.stages.training import run as training
from rarefy.stages.training.parameters import Training

if TYPE_CHECKING:
    from rarefy.pipeline.tasks.shared.ranking import Places
    from rarefy.stages.inject.embeddings import Embeddings
    from rarefy.stages.inject.probe import Probe


class Inject(Training):
    """Teach a pretrained body facts: terms and glosses, synonyms, subjects and their objects.

    A fact is a pair of texts. Each should be nearer to the other than to those of the batch,
    in both directions (SapBERT, Liu et al. 2021, arXiv 2010.11784, with InfoNCE). The query is the
    subject, with the relation behind it unless that is ``means`` or ``synonym``. Texts become
    embeddings as the model makes them: pooled as its files say, by default the mean.

    A probe, before and after training, ranks the object of a fact among the objects of all facts:
    of held-out facts (does the model generalize?) and of learned ones (did training work?). Facts
    that read alike are on one side. It is compared with a list of the most frequent objects of each
    relation, which is all that can be known without the subject, and with the control ``shuffled``.
    Where the labels follow from the facts, a few hundred labelled rows gain some points. Elsewhere
    three seeds showed nothing beyond chance (``benchmarks/results/knowledge.json``).
    ``neighbours_retained`` is the share of the ten nearest texts of each of the task's texts that
    are still among them.
    """

    name: ClassVar[str] = "inject"
    version: ClassVar[int] = 6
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = None
    policy: ClassVar[Policy] = Policy(trains_all_weights=True)

    facts: str = Field(
        description="File of facts, TSV with a header or JSONL: subject, relation, object; or "
        "term, text"
    )
    query_prefix: str = Field(
        default="", description="Text before each query, such as 'query: ' for E5"
    )
    document_prefix: str = Field(
        default="", description="Text before each object, such as 'passage: ' for E5"
    )
    held_out: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the facts held out for the probe"
    )
    shuffled: bool = Field(
        default=False,
        description="Whether to train the control, in which each subject has the object of "
        "another, drawn at random within the relation",
    )

    def files(self, base: Path) -> tuple[Path, ...]:
        return (sources.data_file(self.facts, base, "inject.facts"),)

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if the input has a head, which would no longer fit its body."""
        opened = recipe.opened
        if opened is None or opened.task.head.body_only:
            return
        if opened.input is Kind.CHECKPOINT:
            raise RecipeError(
                f"facts: the input has a head for {opened.task.name} already; put inject before "
                "finetune, with a model that has none"
            )

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the facts can be read."""
        knowledge.read(self.files(base)[0])
        return config

    def run(self, context: Context, model: Artifact) -> Draft:
        """Train on the facts, probe before and after, and save the body."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.inject import contrast
        from rarefy.stages.inject.embeddings import embeddings_of
        from rarefy.stages.inject.probe import Probe

        facts = knowledge.read(self.files(context.base)[0])
        training.prepare(context)
        pairing = replace(context, task=embedding_task(context.task.max_length))
        network, tokenizer = training.open_network(pairing, model)
        draw = random.Random(context.seed)  # noqa: S311
        learned, held_out = knowledge.split(facts, self.held_out, draw)
        taught = self._taught(learned, draw)
        probe = Probe(learned, held_out)
        texts = self._texts_of(probe, context)
        before = embeddings_of(pairing, network, tokenizer, texts, "before")
        rows = training.lessons(pairing, tokenizer, self._pairs(taught))
        loss = partial(contrast.loss, pairing.task.head.outputs)
        trained = training.train(pairing, self, network, tokenizer, rows, loss)
        after = embeddings_of(pairing, network, tokenizer, texts, "after")
        roles = checkpoint.save(network, tokenizer, context.output)
        metrics = (
            *trained.metrics(),
            *self._left_out(learned, taught),
            *_by_frequency(probe),
            *_ranks("before", probe, before),
            *_ranks("after", probe, after),
            *_retained(before, after),
        )
        return Draft(roles, checkpoint.describe(network), metrics)

    def _taught(self, learned: Sequence[Fact], draw: random.Random) -> Sequence[Fact]:
        """Return the facts to train on. Raises DataError if there are none."""
        if not learned:
            raise DataError("inject: all facts are alike, so holding some out leaves none to learn")
        if not self.shuffled:
            return learned
        dealt = knowledge.shuffled(learned, draw)
        if not dealt:
            raise DataError(
                "inject.shuffled: no relation of the learned facts has two objects, so none can be "
                "shuffled"
            )
        return dealt

    def _pairs(self, facts: Sequence[Fact]) -> Split:
        """Return facts as the rows of a search: queries and what they should find."""
        queries = [self.query_prefix + fact.query for fact in facts]
        objects = [self.document_prefix + fact.object for fact in facts]
        return Split("facts", self.facts, "", queries, objects, None)

    def _texts_of(self, probe: Probe, context: Context) -> dict[str, list[str]]:
        """Return the texts to embed: the probe's, and some of the task's."""
        from rarefy.stages.inject.probe import MOST

        split = context.split("train")
        task_texts = dict.fromkeys(split.texts[row] for row in split.evenly(MOST))
        return {
            "queries": [self.query_prefix + query for query in probe.queries],
            "objects": [self.document_prefix + text for text in probe.objects],
            "task": list(task_texts),
        }

    def _left_out(self, learned: Sequence[Fact], taught: Sequence[Fact]) -> list[Metric]:
        """Return how many of the learned facts the control does not teach."""
        if not self.shuffled:
            return []
        left_out = len(learned) - len(taught)
        return [Metric(name="left_out_facts", value=left_out, n=len(learned))]


def embedding_task(max_length: int) -> tasks.Task:
    """Return the task that a body without a head has on facts."""
    return tasks.find("sentence-embeddings").bind((), max_length, ("query", "object"))


def _by_frequency(probe: Probe) -> list[Metric]:
    metrics = []
    for name in probe.questions:
        metrics += _metrics(f"{name}_by_frequency", probe.by_frequency(name))
    return metrics


def _ranks(when: str, probe: Probe, embedded: Embeddings) -> list[Metric]:
    metrics = []
    for name in probe.questions:
        places = probe.by_embeddings(name, embedded["queries"], embedded["objects"])
        metrics += _metrics(f"{name}_{when}", places)
    return metrics


def _metrics(name: str, places: Places) -> list[Metric]:
    """Return the mean reciprocal rank, 0 beyond the tenth, and the share among the first ten."""
    from rarefy.pipeline.tasks.shared import ranking

    values = {
        "mrr_10": ranking.reciprocal_rank(places),
        "hits_10": ranking.recall(places, ranking.TOP),
    }
    metrics = []
    for key, value in values.items():
        rounded = round(float(value.mean()), 6)
        metrics.append(Metric(name=f"{name}_{key}", value=rounded, n=places.queries))
    return metrics


def _retained(before: Embeddings, after: Embeddings) -> list[Metric]:
    """Return the share of each task text's ten nearest texts that are still among them."""
    import numpy as np

    from rarefy.pipeline.tasks.embeddings import search

    each = np.arange(len(before["task"]))
    old = search.neighbours(before["task"], each)
    new = search.neighbours(after["task"], each)
    share = float(search.overlap(old, new).mean())
    rounded = round(share, 6)
    return [Metric(name="neighbours_retained", value=rounded, n=len(each))]
