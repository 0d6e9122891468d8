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
    """Fold an adapter into the base weights, W + BA·α/r, which removes its cost at run time.

    Hu et al. 2021 (arXiv 2106.09685). The answers stay the same: merged and unmerged logits are
    compared on real rows, and a difference of more than 1e-4 is an error. A quantization plan is
    kept, because it describes the layers' inputs, which merging does not change.
    """

    name: ClassVar[str] = "merge"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ADAPTER})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    libraries: ClassVar[tuple[str, ...]] = (*Stage.libraries, "peft")
    quantization: ClassVar[Quantization] = "keeps"

    def resources(self, work: Workload) -> Resources:
        """Return the resources for merging: the model with its adapter, and a copy of its weights.

        The merged model has fewer weights, because the adapter's are gone.
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
            raise ModelError(f"merge: {model.short} has no adapter to merge")
        tokenizer = checkpoint.load_tokenizer(model.directory)
        split = context.split("train")
        rows = context.task.examples(tokenizer, split, range(min(ROWS, len(split))))
        feeds = [{key: torch.tensor([value]) for key, value in row.items()} for row in rows]
        with torch.no_grad():
            context.progress(0, 2, "running the model with its adapter")
            before = torch.cat([context.task.outputs(adapted, feed) for feed in feeds])
            merged = adapted.merge_and_unload(safe_merge=True).eval()
            context.progress(1, 2, "running the merged model")
            after = torch.cat([context.task.outputs(merged, feed) for feed in feeds])
        difference = float((before - after).abs().max())
        if not difference <= TOLERANCE:
            raise ModelError(
                f"merge: merged and unmerged logits differ by {difference:.2g}; "
                f"at most {TOLERANCE} is allowed"
            )
        roles = checkpoint.save(merged, tokenizer, context.output)
        metric = Metric(name="merge_difference", split="train", value=difference, n=len(rows))
        return Draft(roles=roles, model=checkpoint.describe(merged), metrics=(metric,))
