"""The progress of one step after another, told as one."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.terms.progress import Progress


@dataclass
class Steps:
    """``total`` steps of equal length; ``next`` begins one."""

    progress: Progress
    total: int
    done: int = -1

    def next(self, what: str) -> Progress:
        """Begin the next step; return what its own progress is told to."""
        self.done += 1
        done = self.done
        self.progress(done, self.total, what)

        def told(part: float, whole: float, note: str) -> None:
            self.progress(done + part / max(whole, 1e-9), self.total, note)

        return told
