"""Combine the progress of consecutive steps into one."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.terms.progress import Progress


@dataclass
class Steps:
    """``total`` steps of equal weight; ``next`` begins one."""

    progress: Progress
    total: int
    done: int = -1

    def next(self, note: str) -> Progress:
        """Begin the next step and return the callback for its own progress."""
        self.done += 1
        done = self.done
        self.progress(done, self.total, note)

        def report(part: float, whole: float, note: str) -> None:
            share = part / max(whole, 1e-9)
            self.progress(done + share, self.total, note)

        return report
