"""Profile: time a model's heads and neurons on this machine, in the form that ships."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from rarefy.pipeline.measure import machine
from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.stage import Context, Draft, Policy, Requirements, Stage
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.tasks.task import timed_requests
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import first_cpu_target
from rarefy.stages.training.parameters import EXPORTING


class Profile(Stage):
    """Time a model's heads and neurons on this machine, for `prune: {speedup}`.

    Models of one and of two layers with few and many heads and neurons are exported as they would
    ship, in int8, and timed on development rows in short alternating blocks of calls. Their
    differences measure the cost of a head or a neuron, alone and together with others, which a
    count of operations cannot (a table as in OFA, Cai et al. 2020, arXiv 1908.09791). Before
    ``finetune``, it times the pretrained model, and its table is reused for every teacher made from
    that model.

    The next stage receives the same input as this stage.
    """

    name: ClassVar[str] = "profile"
    version: ClassVar[int] = 3
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.REPORT
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev"})
    libraries: ClassVar[tuple[str, ...]] = EXPORTING
    policy: ClassVar[Policy] = Policy(aside=True, seeded=False, timed=True)

    precision: str = Field(
        default="int8",
        pattern="^(int8|float)$",
        description="Precision of the timed models: int8 or float",
    )
    seconds: float = Field(
        default=60, gt=0, le=3600, description="Time limit of the timing, in seconds"
    )

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return the machine's fingerprint and the target that is timed.

        Raises RecipeError if no target is ONNX Runtime on a CPU.
        """
        timed = [each for each in requirements.targets if each.provider == "cpu"]
        if not timed:
            raise RecipeError("profile: it times on a CPU; add such a target")
        return {"machine": machine.fingerprint(), "target": timed[0].model_dump(mode="json")}

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the model's parts are described."""
        from rarefy.pipeline.model.architectures import parts

        parts.named(config)
        depth = parts.depth(config)
        if depth is not None and depth < 2:
            raise ModelError("profile needs a model with at least two layers")
        return config

    def run(self, context: Context, model: Artifact) -> Draft:
        """Write the table; report the ms of one layer more."""
        import numpy as np

        from rarefy.stages.prune.latency_table import Curve, Table, grid, model_of
        from rarefy.stages.prune.selection import MULTIPLES
        from rarefy.stages.training import run as training

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        most = self._most(network)
        points = []
        for kind, number in most.items():
            for count in grid(number, MULTIPLES[kind]):
                points.append((kind, count))
        bundles: dict[str, Path] = {}
        for done, (kind, count) in enumerate(points):
            context.progress(done, len(points), f"exporting {count} {kind}")
            for depth in (1, 2):
                name = _bundle_name(depth, kind, count, most)
                if name not in bundles:
                    small = self._small(network, depth, kind, count)
                    bundles[name] = self._exported(context, small, tokenizer, name)
        timed = self._timed(context, bundles)
        ms = {name: timed.percentile(name, 50).value for name in bundles}
        curves = {}
        for kind in most:
            counts = tuple(count for unit, count in points if unit == kind)
            times = []
            for depth in (1, 2):
                names = [_bundle_name(depth, kind, count, most) for count in counts]
                times.append(tuple(ms[name] for name in names))
            curves[kind] = Curve(counts, *times)
        fingerprint = machine.fingerprint()
        table = Table(
            machine=machine.digest(fingerprint),
            threads=first_cpu_target(context.targets).threads,
            tokens=int(np.median(timed.tokens)),
            curves=curves,
            model=model_of(network),
            precision=self.precision,
        )
        table.save(context.output)
        layer_ms = round(ms["2-whole"] - ms["1-whole"], 6)
        calls = sum(map(len, timed.samples["1-whole"]))
        metric = Metric(name="layer_ms", value=layer_ms, n=calls)
        return Draft({"latencies.json": "latencies"}, metrics=(metric,), lasts=not timed.throttled)

    def _most(self, network: Any) -> dict[str, int]:
        """Return the number of neurons, and of heads if they can be removed, in each layer.

        Raises ModelError if the layers differ.
        """
        from rarefy.pipeline.model.architectures import parts

        neurons, heads = parts.neuron_counts(network), parts.head_counts(network)
        if len({*zip(neurons, heads, strict=True)}) > 1:
            raise ModelError("profile: the layers differ already; profile before pruning")
        most = {"neurons": max(neurons)}
        if not parts.of(network).heads_stay(network.config.to_dict()):
            most["heads"] = max(heads)
        return most

    def _small(self, network: Any, depth: int, kind: str, count: int) -> Any:
        """Return a copy with the first layers, of which each has ``count`` units of a kind."""
        import torch

        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.surgery import units as surgery

        small = copy.deepcopy(network)
        surgery.keep_layers(small, range(depth))
        for part in surgery.parts(small, kind):
            retained = torch.arange(min(count, part.count))
            surgery.keep_units(part, retained)
        checkpoint.count_heads(small)
        return small

    def _exported(self, context: Context, small: Any, tokenizer: Any, name: str) -> Path:
        from rarefy.stages.quantization.bundles import Finalists

        subcontext = replace(context, work=context.work / name)
        finalists = Finalists(subcontext, small, tokenizer)
        if self.precision == "int8":
            return next(finalists.int8())
        return finalists.build(None)

    def _timed(self, context: Context, bundles: dict[str, Path]) -> Any:
        from rarefy.pipeline.measure.latency import session as latency
        from rarefy.stages.quantization.bundles import PROCESSES

        texts, pairs = timed_requests(context.task, context.split("dev"))
        measure = partial(
            latency.measure,
            bundles,
            texts,
            pairs,
            threads=first_cpu_target(context.targets).threads,
            processes=PROCESSES,
            seconds=self.seconds,
            seed=context.seed,
            progress=context.progress,
        )
        return latency.undisturbed(measure)


def _bundle_name(depth: int, kind: str, count: int, most: Mapping[str, int]) -> str:
    """Return the name of the bundle of a model with so many layers and units in each."""
    if count == most[kind]:
        return f"{depth}-whole"
    return f"{depth}-{kind}-{count}"
