"""The score of a branch's model on the development rows, by which branches are chosen.

The eval rows choose nothing: what is said of the chosen model there would be too good.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.run import scoring
from pipeline.run.plan import Plan
from pipeline.stage.development import NAME
from pipeline.store.artifact import Artifact
from pipeline.terms.interval import Interval
from pipeline.terms.progress import silent


def on_dev(
    plan: Plan,
    artifact: Artifact,
    check: Callable[[Artifact], None],
) -> tuple[str, Interval] | None:
    """Return the main metric's name and value on the development rows, None for no model.

    It is measured once and kept in the store. Raises what ``pipeline.run.scoring.score`` raises.
    """
    scores = scoring.score(plan, artifact, check, silent, lambda: None, split=NAME)
    if not scores.metrics:
        return None
    main = scores.metrics[0]
    return main.name, scoring.interval(main)
