"""Tags: names that move from artifact to artifact, each with the history of its moves.

A tag is one JSON file, ``{"digest", "time", "history": [...]}``, in a store and in a remote alike.
Going back is an undo stack: a rollback takes the newest move away, so two rollbacks go two moves
back, and what is promoted after one lies on top of what was rolled back to.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.terms.errors import EvidenceError, IntegrityError, RecipeError
from pipeline.terms.vocabulary import NAME

ANY: Final = "*"
"""What ``expect`` is where it does not matter what a tag points at before it moves."""
KEPT = 10
"""How many entries of each tag's history keep their artifacts from being garbage."""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Why = Literal["tag", "promote", "rollback"]


class NoTagError(RecipeError):
    """A tag is not there (yet), as before a first release; ``known`` are those that are."""

    def __init__(self, message: str, known: Iterable[str]) -> None:
        self.known = list(known)
        super().__init__(f"{message} (tags: {', '.join(self.known) or 'none'})")


class Move(BaseModel):
    """One move: from what to what, when (seconds since 1970), why, on which run's verdict."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    digest: Digest
    time: float
    previous: Digest | None = Field(
        default=None, validation_alias="from", serialization_alias="from"
    )
    why: Why = "tag"
    run: str | None = None
    verdict: str | None = None


class Tag(BaseModel):
    """What a tag points at, and its moves, oldest first; files of old have no moves."""

    model_config = ConfigDict(frozen=True)

    digest: Digest
    time: float
    history: tuple[Move, ...] = ()

    @property
    def moves(self) -> tuple[Move, ...]:
        return self.history or (Move(digest=self.digest, time=self.time),)

    @property
    def stack(self) -> list[str]:
        """Digests from the oldest to the present one, without what was rolled back."""
        stack: list[str] = []
        for move in self.moves:
            below = stack[:-1]
            if move.why == "rollback" and move.digest in below:
                last = len(below) - below[::-1].index(move.digest)
                del stack[last:]
            else:
                stack.append(move.digest)
        return stack

    @property
    def before(self) -> str | None:
        """What a rollback goes back to, None where there is nothing."""
        return next(iter(self.stack[-2:-1]), None)

    @property
    def kept(self) -> set[str]:
        """The artifacts it keeps from being garbage: the last moves, and what they undo to."""
        recent = {move.digest for move in self.moves[-KEPT:]}
        return {self.digest, *recent, *self.stack[-KEPT:]}

    def file(self) -> bytes:
        """Return the bytes of its file."""
        return self.model_dump_json(by_alias=True).encode()


def moved(
    tag: Tag | None,
    digest: str,
    why: Why = "tag",
    run: str | None = None,
    verdict: str | None = None,
) -> Tag:
    """Return the tag after a move to ``digest``; ``verdict`` is the outcome that allowed it."""
    now = time.time()
    previous = tag.digest if tag else None
    move = Move(digest=digest, time=now, previous=previous, why=why, run=run, verdict=verdict)
    return Tag(digest=digest, time=now, history=(*(tag.moves if tag else ()), move))


def parse(data: bytes, where: str) -> Tag:
    """Read a tag's file. Raises IntegrityError where it is damaged; ``where`` names it."""
    try:
        return Tag.model_validate_json(data)
    except ValidationError:
        raise IntegrityError(f"{where}: damaged; delete this file") from None


def check_name(name: str) -> None:
    """Raise RecipeError for a name that a tag may not have."""
    if not NAME.fullmatch(name):
        raise RecipeError(f"tag {name!r}: a name looks like {NAME.pattern}")
    if len(name) >= 6 and set(name) <= set("0123456789abcdef"):
        raise RecipeError(f"tag {name!r} reads like the beginning of a digest; choose another name")


def check_unmoved(name: str, tag: Tag | None, expect: str | None) -> None:
    """Raise EvidenceError where a tag is not (any more) at what a decision was made on.

    ``expect``: a digest, None for a tag that is not there, or ``ANY``.
    """
    current = tag.digest if tag else None
    if expect not in (ANY, current):
        raise EvidenceError(
            f"tag {name!r} moved meanwhile: it was at {_short(expect)} when this was decided, and "
            f"is at {_short(current)} now; look again before you move it"
        )


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"
