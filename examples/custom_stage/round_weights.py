"""A stage of your own: one file beside the recipe, named in it ``round_weights:RoundWeights``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rarefy import Artifact, Context, Draft, Metric, Stage, checkpoint


class RoundWeights(Stage):
    """Round the weights to a shorter float: what bfloat16 storage would do to the accuracy.

    bfloat16 keeps eight bits of the mantissa, so a weight moves by at most 1/256 of itself
    (Kalamkar et al. 2019, arXiv 1905.12322). The weights stay in fp32 files, with the bits zero.
    """

    # The fields are what a recipe may say. They are checked, shown by `rarefy recipe show`, and
    # part of the fingerprint; so are the bytes of this file.
    name: ClassVar[str] = "round_weights"
    reads: ClassVar[frozenset[str]] = frozenset()  # no data: its rows may change without a re-run

    precision: Literal["bfloat16", "float16"] = Field(
        default="bfloat16", description="the shorter float"
    )

    def run(self, context: Context, model: Artifact) -> Draft:
        """Round every weight; report the largest relative change."""
        import torch

        network = checkpoint.load(model.directory)
        shorter = getattr(torch, self.precision)
        parameters = list(network.parameters())
        worst = 0.0
        with torch.no_grad():
            for done, parameter in enumerate(parameters, start=1):
                rounded = parameter.to(shorter).to(torch.float32)
                change = (rounded - parameter).abs() / parameter.abs().clamp_min(1e-6)
                worst = max(worst, float(change.max()))
                parameter.copy_(rounded)
                context.progress(done, len(parameters), "rounding")
        tokenizer = checkpoint.load_tokenizer(model.directory)
        roles = checkpoint.save(network, tokenizer, context.output)
        metric = Metric(name="largest_relative_change", value=worst)
        return Draft(roles, checkpoint.describe(network), (metric,))
