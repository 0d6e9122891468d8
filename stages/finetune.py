"""Full fine-tuning: the baseline that later stages are compared with."""

from __future__ import annotations

from typing import ClassVar

from rarefy.pipeline.stage import Context, Draft, Policy
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.stages.training.parameters import Keeping


class Finetune(Keeping):
    """Train all weights on the labelled rows, with a new head if the model has none.

    Devlin et al. 2019 (arXiv 1810.04805): 2–4 epochs of AdamW with linear decay after a warm-up. A
    short warm-up and a small learning rate keep training stable (Mosbach et al. 2021, arXiv
    2006.04884). Good learning rates are 2e-5 to 5e-5 for 12×768 bodies and 5e-5 to 1e-4 for smaller
    ones. On few rows a model soon overfits: ``keep: best`` keeps the weights with the lowest loss
    on rows it was not trained on. A classifier's new head is fitted to the frozen body first (Kumar
    et al. 2022, arXiv 2202.10054). The result is the teacher of later stages and the baseline for
    budgets.
    """

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 8
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    policy: ClassVar[Policy] = Policy(needs_labels=True, trains_all_weights=True)

    def run(self, context: Context, model: Artifact) -> Draft:
        """Train the model and save it with its head."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.training import head_start
        from rarefy.stages.training import run as training

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        head_start.fit_new_head(context, model, network, tokenizer)
        rows = training.lessons(context, tokenizer, context.split("train"))
        loss = context.task.objective.training_loss()
        judge = None
        dev_splits = self.judged_on(context)
        if dev_splits:
            dev_rows = training.lessons(context, tokenizer, *dev_splits)
            judge = training.mean_loss(context, tokenizer, dev_rows, loss)
        trained = training.train(
            context, self, network, tokenizer, rows, loss, judge=judge, patience=self.patience
        )
        roles = checkpoint.save(network, tokenizer, context.output)
        return Draft(roles, checkpoint.describe(network), tuple(trained.metrics()))
