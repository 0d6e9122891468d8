"""Profile: time a model's heads and neurons on this machine, in the form that ships."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.measure import latency, machine
from pipeline.model.architectures.description import Config
from pipeline.stage import Asked, Context, Draft, Stage
from pipeline.stage.tasks.encoder import timed_requests
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import ModelError, RecipeError
from stages import training
from stages.allocation import MULTIPLES
from stages.latency_table import Curve, Table, grid, model_of
from stages.parameters import EXPORTING


class Profile(Stage):
    """Time a model's heads and neurons on this machine, for pruning to a speed-up (prune: table).

    Models of one and of two layers with few and many heads and neurons are exported as they would
    ship, in int8, and timed on development rows in short blocks of calls that take turns. Their
    differences say what a head or a neuron costs, alone and beside others, which no count of
    operations does (a table as in OFA, Cai et al. 2020, arXiv 1908.09791). Before ``finetune``, it
    times the pretrained model, and is found again beside every teacher that is made of it.

    The next stage goes on from this one's input.
    """

    name: ClassVar[str] = "profile"
    version: ClassVar[int] = 3
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.REPORT
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev"})
    libraries: ClassVar[tuple[str, ...]] = EXPORTING
    aside: ClassVar[bool] = True
    seeded: ClassVar[bool] = False
    timed: ClassVar[bool] = True

    precision: str = Field(default="int8", pattern="^(int8|float)$", description="int8 or float")
    seconds: float = Field(default=60, gt=0, le=3600, description="time limit of the timing")

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return the machine's fingerprint and the target that is timed.

        Raises RecipeError if no target is ONNX Runtime on a CPU.
        """
        timed = [each for each in asked.targets if each.provider == "cpu"]
        if not timed:
            raise RecipeError("profile: it times on a CPU; add such a target")
        return {"machine": machine.fingerprint(), "target": timed[0].model_dump(mode="json")}

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the model's parts are described."""
        from pipeline.model import parts

        parts.named(config)
        depth = parts.depth(config)
        if depth is not None and depth < 2:
            raise ModelError("profile: a model of one layer does not say what a layer costs")
        return config

    def run(self, context: Context, model: Artifact) -> Draft:
        """Write the table; report the ms of one layer more."""
        from pipeline.model import parts

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        config = network.config.to_dict()
        counted = {*zip(parts.neuron_counts(network), parts.head_counts(network), strict=True)}
        if len(counted) > 1:
            raise ModelError("profile: the layers differ already; profile before pruning")
        most = {"neurons": max(parts.neuron_counts(network))}
        if not parts.of(network).heads_stay(config):
            most["heads"] = max(parts.head_counts(network))
        bundles: dict[str, Path] = {}
        points = [
            (kind, count)
            for kind, number in most.items()
            for count in grid(number, MULTIPLES[kind])
        ]
        for done, (kind, count) in enumerate(points):
            context.progress(done, len(points), f"exporting {count} {kind}")
            for depth in (1, 2):
                name = f"{depth}-{kind}-{count}"
                if count == most[kind]:
                    name = f"{depth}-whole"
                if name not in bundles:
                    small = self._small(network, depth, kind, count)
                    bundles[name] = self._exported(context, small, tokenizer, name)
        timed = self._timed(context, bundles)
        ms = {name: timed.percentile(name, 50).value for name in bundles}

        def curve(kind: str) -> Curve:
            counts = tuple(count for each, count in points if each == kind)
            names = [f"{kind}-{c}" if c != most[kind] else "whole" for c in counts]
            one, two = (tuple(ms[f"{depth}-{name}"] for name in names) for depth in (1, 2))
            return Curve(counts, one, two)

        target = next(each for each in context.targets if each.provider == "cpu")
        table = Table(
            machine=machine.digest(machine.fingerprint()),
            threads=target.threads,
            tokens=int(np.median(timed.tokens)),
            curves={kind: curve(kind) for kind in most},
            model=model_of(network),
            precision=self.precision,
        )
        table.save(context.output)
        layer = ms["2-whole"] - ms["1-whole"]
        metric = Metric(
            name="layer_ms", value=round(layer, 6), n=sum(map(len, timed.samples["1-whole"]))
        )
        return Draft({"latencies.json": "latencies"}, metrics=(metric,), lasts=not timed.throttled)

    def _small(self, network: Any, depth: int, kind: str, count: int) -> Any:
        """Return a copy with the first layers, of which each has ``count`` units of a kind."""
        import torch

        from pipeline.model import checkpoint
        from stages import surgery

        small = copy.deepcopy(network)
        surgery.keep_layers(small, range(depth))
        for part in surgery.parts(small, "neurons" if kind == "neurons" else "heads"):
            surgery.keep_units(part, torch.arange(min(count, part.count)))
        checkpoint.count_heads(small)
        return small

    def _exported(self, context: Context, small: Any, tokenizer: Any, name: str) -> Path:
        from stages.finalists import Finalists

        own = replace(context, work=context.work / name)
        made = Finalists(own, small, tokenizer)
        return next(made.int8()) if self.precision == "int8" else made.build(None)

    def _timed(self, context: Context, bundles: dict[str, Path]) -> Any:
        from stages.finalists import PROCESSES

        texts, pairs = timed_requests(context.task, context.split("dev"))
        target = next(each for each in context.targets if each.provider == "cpu")
        return latency.undisturbed(
            lambda: latency.measure(
                bundles,
                texts,
                pairs,
                threads=target.threads,
                processes=PROCESSES,
                seconds=self.seconds,
                seed=context.seed,
                progress=context.progress,
            )
        )
