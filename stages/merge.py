"""Merge: fold a trained adapter into the weights."""

from __future__ import annotations

from typing import ClassVar

from pipeline.model import checkpoint
from pipeline.stage import Context, Draft, Quantization, Stage
from pipeline.stage.resources import PROCESS, Resources, Workload, upto, weights
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import ModelError

TOLERANCE = 1e-4
ROWS = 32


class Merge(Stage):
    """Fold an adapter into the base weights, W + BA·α/r, exactly: the same answers, no extra cost.

    Hu et al. 2021 (arXiv 2106.09685). The merged logits are compared with the unmerged ones on real
    rows; more than 1e-4 apart is an error. A quantization plan stays: it speaks of inputs, which
    merging does not change.
    """

    name: ClassVar[str] = "merge"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ADAPTER})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft")
    quantization: ClassVar[Quantization] = "keeps"

    def resources(self, work: Workload) -> Resources:
        """Return what merging needs: the model with its adapter, and at most its weights again.

        What is merged has fewer weights: without the adapter's.
        """
        shape = work.shape.shrunk(0)
        return Resources(
            disk=weights(shape),
            memory=PROCESS + weights(work.shape) + upto(weights(shape).most),
            shape=shape,
            effort=shape.parameters,
        )

    def run(self, context: Context, model: Artifact) -> Draft:
        """Write the merged checkpoint."""
        import torch

        adapted = checkpoint.load(model.directory)
        if not hasattr(adapted, "merge_and_unload"):
            raise ModelError(f"merge: {model.short} has no adapter")
        tokenizer = checkpoint.load_tokenizer(model.directory)
        split = context.split("train")
        rows = context.task.encode(tokenizer, split, range(min(ROWS, len(split))))
        feeds = [{key: torch.tensor([value]) for key, value in row.items()} for row in rows]
        with torch.no_grad():
            context.progress(0, 2, "asking the model with its adapter")
            before = torch.cat([adapted(**feed).logits for feed in feeds])
            merged = adapted.merge_and_unload(safe_merge=True).eval()
            context.progress(1, 2, "asking the merged model")
            after = torch.cat([merged(**feed).logits for feed in feeds])
        difference = float((before - after).abs().max())
        if not difference <= TOLERANCE:
            raise ModelError(
                f"merge: merged logits are {difference:.2g} from the unmerged ones, "
                f"at most {TOLERANCE} is allowed"
            )
        roles = checkpoint.save(merged, tokenizer, context.output)
        metric = Metric(name="merge_difference", split="train", value=difference, n=len(rows))
        return Draft(roles=roles, model=checkpoint.describe(merged), metrics=(metric,))
