"""Compare two bundles: predictions on the same rows, latencies measured side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.release.bundles import Bundle
from pipeline.terms.errors import EvidenceError
from pipeline.terms.progress import Progress

if TYPE_CHECKING:
    from pipeline.measure.gate import Comparison
    from pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
    from pipeline.stage.split import Split
    from pipeline.stage.tasks import Task
    from pipeline.terms.vocabulary import Target

CANDIDATE, BASELINE = SIDES = ("candidate", "baseline")
SEED = 0


@dataclass(frozen=True)
class Effort:
    """Limits of the latency comparison: maximum rows, minimum processes, maximum seconds."""

    rows: int
    processes: int
    seconds: float


@dataclass(frozen=True)
class Compared:
    """The measurements of both sides, and whether the median latency changed by the margin.

    ``names``: the user's name for each side. ``latency``: the session in which each side was timed;
    the same for both unless the baseline's numbers come from the file ``recorded``.
    """

    names: dict[str, str]
    measurements: Measurements
    latency: dict[str, Latency]
    times: Comparison
    margin: float
    recorded: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values.

        Differences are candidate − baseline, ratios candidate / baseline.
        """
        models, times = self.measurements.models, self.times
        here = self.latency[CANDIDATE]
        return {
            "models": {
                side: {"name": self.names[side]}
                | models[side].model_dump(include={"digest", "size", "parameters"})
                for side in SIDES
            },
            "rows": len(self.measurements.truth),
            "accuracy": agreement(self.measurements),
            "latency": {
                f"{side}_p50": self.latency[side].percentile(side, 50)._asdict() for side in SIDES
            }
            | {"ratio": times.ratio._asdict(), "change": times.change, "p": times.p}
            | {"margin": self.margin, "recorded": self.recorded}
            | here.model_dump(
                include={
                    *("noise", "busy", "throttled", "seconds", "stopped"),
                    *("provider", "threads"),
                }
            ),
        }


def compare(
    sides: dict[str, Bundle],
    task: Task,
    split: Split,
    target: Target,
    effort: Effort,
    margin: float,
    progress: Progress,
) -> Compared:
    """Measure candidate and baseline; latency is measured until the change is conclusive."""
    from pipeline.measure import alone, engines, gate

    ran_by = engines.providers({side: sides[side].directory for side in SIDES}, target.provider)
    models = {
        side: answered(
            sides[side], task, split, target.model_copy(update={"provider": ran_by[side]}), progress
        )
        for side in SIDES
    }
    with alone.measuring(alone.noted(progress)):
        times, timed = gate.measure(
            sides[CANDIDATE].directory,
            sides[BASELINE].directory,
            margin=margin,
            **timing(task, split, target, effort),
            progress=progress,
        )
    found = gathered(models, task, split, truth_of(task, split, models[BASELINE]))
    found.latency[target.name] = timed
    names = {side: sides[side].name for side in SIDES}
    return Compared(names, found, dict.fromkeys(SIDES, timed), times, margin)


def answered(
    side: Bundle, task: Task, split: Split, target: Target, progress: Progress
) -> ModelMeasurement:
    """Measure a bundle's predictions on the split and its size."""
    from pipeline.measure import accuracy, memory
    from pipeline.measure.measurements import ModelMeasurement

    answers = accuracy.bundle_answers(
        side.directory,
        task,
        split,
        progress=progress,
        provider=target.provider,
        threads=target.threads,
    )
    return ModelMeasurement(
        digest=side.digest,
        size=memory.size(side.directory),
        parameters=side.manifest.model.get("parameters") if side.manifest else None,
        answers=accuracy.as_table(answers),
    )


def timing(
    task: Task, split: Split, target: Target, effort: Effort, seed: int = SEED
) -> dict[str, Any]:
    """Return the arguments of ``latency.measure`` other than the bundles."""
    import numpy as np

    texts, pairs = task.served(split)
    count = min(effort.rows, len(texts))
    rows = np.random.default_rng(seed).choice(len(texts), count, replace=False)
    return {
        "texts": [texts[row] for row in rows],
        "pairs": None if pairs is None else [pairs[row] for row in rows],
        "provider": target.provider,
        "threads": target.threads,
        "processes": effort.processes,
        "seconds": effort.seconds,
        "seed": seed,
    }


def truth_of(task: Task, split: Split, baseline: ModelMeasurement) -> list[Any]:
    """Return what both sides are scored by: for rows without labels, the baseline's answers.

    Raises EvidenceError if one of these is NaN or infinite.
    """
    import numpy as np

    if task.unlabelled:
        answers = np.asarray(baseline.answers, dtype=float)
        if not np.isfinite(answers).all():
            raise EvidenceError(
                f"the baseline outputs NaN for rows of {split.reference}, so its answers cannot be "
                "the truth"
            )
        split = replace(split, labels=task.targets_of(answers, split))
    return task.truth(split)


def gathered(
    models: dict[str, ModelMeasurement], task: Task, split: Split, truth: list[Any]
) -> Measurements:
    """Return the measurements of both sides in the form in which budgets are judged."""
    from pipeline.measure import machine
    from pipeline.measure.measurements import Measurements

    return Measurements(
        machine=machine.fingerprint(),
        task=task.name,
        labels=list(task.labels),
        unlabelled=task.unlabelled,
        data=split.sha256,
        truth=truth,
        groups=task.groups(split),
        models=models,
        latency={},
    )


def agreement(measurements: Measurements) -> dict[str, Any]:
    """Return both main scores, their paired difference and the flips.

    ``flips`` of the ``answers`` differ; ``gains`` and ``losses`` are of the ``blocks``, each a
    ``block``, e.g. a query. ``p`` is None for scores that do not count right rows, whose
    difference has the interval of a bootstrap of blocks, and where nothing is ``tested``, as the
    baseline's own answers are the truth. If some are in one of ``groups``, whole
    groups are drawn and tested (``scores.chance``); 0 if none are.
    """
    from pipeline.measure import scores

    task, truth, main = measurements.scored_by, measurements.truth, measurements.main
    ours, theirs = (measurements.table(side) for side in SIDES)
    same = measurements.agreement(ours, theirs)
    right = measurements.right(CANDIDATE), measurements.right(BASELINE)
    tested = task.counted and not measurements.unlabelled  # or the baseline's answers are right
    gains, losses = scores.flips(*right)
    return {
        "metric": main,
        **{side: measurements.score(main, side)._asdict() for side in SIDES},
        "difference": measurements.compare(main, ours, theirs).difference._asdict(),
        "p": scores.chance(*right, measurements.groups) if tested else None,
        "tested": tested or not task.counted,
        "groups": len(set(measurements.groups)),
        "agreement": same._asdict(),
        "answers": len(ours),
        "block": task.block(truth),
        "blocks": len(right[0]),
        "gains": gains,
        "losses": losses,
        "flips": round(len(ours) * (1 - same.value)),
    }
