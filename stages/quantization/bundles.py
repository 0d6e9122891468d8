"""Bundles of quantization plans: how far their answers are from float's, and their latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rarefy.exporters.build import Traced, build, trace
from rarefy.pipeline.data.development_split import picked
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.measurements import Latency
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store import disk
from rarefy.pipeline.tasks.task import timed_requests
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.recipe_parts import Isa, Target, first_cpu_target
from rarefy.stages.quantization import ranges, sensitivity, smoothing

FLOAT = "float"
ROWS = 256
PROCESSES, SECONDS = 5, 60.0


@dataclass
class Finalists:
    """Exports plans of a network into the work folder, and measures them on the first target.

    Attributes:
        context: the run's context.
        network: the float network.
        tokenizer: its tokenizer.
        together: rows of equal length that are predicted at once, where answers are compared.
        isa: the width of weights; None: that of the first target with a CPU.
    """

    context: Context
    network: Any
    tokenizer: Any
    together: int = 1
    isa: Isa | None = None

    def build(self, plan: Plan | None) -> Path:
        """Return the bundle of a plan, or of the float model; an earlier one is used again.

        Raises ModelError if its answers are far from PyTorch's.
        """
        name = FLOAT
        if plan is not None:
            name = value_sha256(plan.model_dump(mode="json"))[:16]
        folder = self.context.work / "bundles" / name
        if folder.is_dir():
            return folder
        (self._checkpoint / quantization.FILE).unlink(missing_ok=True)
        if plan is not None:
            quantization.write(plan, self._checkpoint)
        part = disk.temporary(folder)
        part.mkdir(parents=True)
        build(
            self._checkpoint,
            part,
            task=self.context.task,
            split=self.context.split("dev"),
            form="deploy",
            threads=self._target.threads,
            isa=self.isa or self._target.isa,
            samples=False,
            traced=self._traced,
        )
        part.rename(folder)
        return folder

    def int8(self) -> Iterator[Path]:
        """Yield bundles with all layers and embeddings in int8: the plain one, then smoothed.

        One whose answers are far from PyTorch's is left out. Raises ModelError if both are.
        """
        problem, built = ModelError(""), 0
        for smooth in (False, True):
            try:
                if smooth:
                    plan = smoothed(self.context, self.network, self.tokenizer)
                else:
                    plan = rounded(self.network)
                bundle = self.build(plan)
            except ModelError as error:
                problem = error
                continue
            built += 1
            yield bundle
        if not built:
            raise problem

    def damage(self, bundle: Path) -> float:
        """Return the mean divergence of a bundle's answers to development rows from float's."""
        answers = torch.from_numpy(self._answers(bundle))
        divergence = self.context.task.objective.divergence(self._exact, answers)
        return float(divergence.mean())

    def time(self, bundles: Mapping[str, Path]) -> Latency:
        """Time bundles, of which one is named ``FLOAT``, on development rows.

        If something else slowed the machine down, they are timed again.
        """
        texts, pairs = timed_requests(self.context.task, self._split)

        measure = partial(
            latency.measure,
            bundles,
            texts,
            pairs,
            threads=self._target.threads,
            processes=PROCESSES,
            seconds=SECONDS,
            seed=self.context.seed,
            progress=self.context.progress,
        )
        with exclusive.measuring(exclusive.noted(self.context.progress)):
            return latency.undisturbed(measure)

    @cached_property
    def _checkpoint(self) -> Path:
        """The network as a checkpoint, whose plan changes."""
        folder = self.context.work / "float"
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self.network, self.tokenizer, folder)
        return folder

    @cached_property
    def _traced(self) -> Traced:
        """The network's graph, which all bundles begin with."""
        return trace(self._checkpoint, self.context.task, self.context.split("dev"))

    @property
    def _target(self) -> Target:
        return first_cpu_target(self.context.targets)

    @cached_property
    def _split(self) -> Split:
        """At most ``ROWS`` rows spread evenly over the development split."""
        split = self.context.split("dev")
        return picked(split, split.evenly(ROWS), split.name, split.sha256)

    @cached_property
    def _exact(self) -> torch.Tensor:
        return torch.from_numpy(self._answers(self.build(None)))

    def _answers(self, bundle: Path) -> NDArray[np.float32]:
        texts, pairs = self.context.task.encoder.requests(self._split)
        model = BundleModel(bundle, threads=self.context.threads)
        return model.units(texts, pairs, together=self.together)


def rounded(network: Any) -> Plan:
    """Return the plan that has all layers and embeddings of a network in int8, dynamic."""
    fixed = set(parts.position_projections(network))  # the export folds them into constants
    names = [name for name in sensitivity.linear_layers(network) if name not in fixed]
    layers = {name: LinearPlan(precision="int8") for name in names}
    return Plan(mode="dynamic", embeddings="int8", linears=layers)


def smoothed(context: Context, network: Any, tokenizer: Any) -> Plan:
    """Return the same plan with the inputs of layers divided where that halves their error."""
    plan = rounded(network)
    rows = ranges.rows(context, tokenizer, "train", ROWS)
    groups = smoothing.groups(network, list(plan.linears), rows[0])
    factors = smoothing.factors(network, groups, rows, "avx2", context.progress)
    layers = {}
    for name, layer in plan.linears.items():
        layers[name] = layer.model_copy(update={"factors": factors.get(name)})
    return plan.model_copy(update={"linears": layers})
