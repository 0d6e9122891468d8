"""Tags: movable names for artifacts, each with the history of its moves.

A tag is one JSON file, ``{"digest", "time", "history": [...]}``, both in a store and in a remote.
Rollback works like an undo stack: each rollback pops the newest move, so two rollbacks go two moves
back, and the next promotion is pushed on top of the artifact that was rolled back to.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.terms.digests import SHA256, is_beginning, is_sha256
from pipeline.terms.errors import EvidenceError, IntegrityError, RecipeError
from pipeline.terms.vocabulary import NAME

ANY: Final = "*"
"""The value of ``expect`` that skips the check of what a tag points at before it moves."""
PROTECTED_MOVES = 10
"""How many entries of each tag's history protect their artifacts from garbage collection."""


class GoneError(RecipeError):
    """A tag points at an artifact that is not in the store any more."""


Digest = Annotated[str, Field(pattern=SHA256)]
Why = Literal["tag", "promote", "rollback"]


class NoTagError(RecipeError):
    """A tag does not exist (yet), e.g. before the first release; ``tags`` are the existing ones."""

    def __init__(self, message: str, tags: Iterable[str]) -> None:
        self.tags = list(tags)
        super().__init__(f"{message} (tags: {', '.join(self.tags) or 'none'})")


class Move(BaseModel):
    """One move of a tag: from and to which digest, when (Unix time), why, and on which verdict."""

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
    """A tag's digest and its moves, oldest first."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    digest: Digest
    time: float
    moves: tuple[Move, ...] = Field(
        min_length=1, validation_alias="history", serialization_alias="history"
    )

    @property
    def previous(self) -> Tag | None:
        """The tag without its newest move, or None if that was its first."""
        if len(self.moves) == 1:
            return None
        last = self.moves[-2]
        return Tag(digest=last.digest, time=last.time, moves=self.moves[:-1])

    @property
    def stack(self) -> list[str]:
        """Digests from the oldest to the current one, without those that were rolled back."""
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
        """The digest that a rollback goes back to, or None if there is none."""
        stack = self.stack
        return stack[-2] if len(stack) > 1 else None

    @property
    def protected(self) -> set[str]:
        """Digests protected from garbage collection: recent moves, and what rollbacks reach."""
        recent = {move.digest for move in self.moves[-PROTECTED_MOVES:]}
        return {self.digest, *recent, *self.stack[-PROTECTED_MOVES:]}

    def file(self) -> bytes:
        """Return the content of the tag's file."""
        return self.model_dump_json(by_alias=True).encode()


def unknown(reference: str, tag: Tag | None, store: Path) -> RecipeError:
    """Return the error for an artifact that is not in a store; ``tag``: the one that names it."""
    if tag is None:
        return RecipeError(f"{reference}: no such artifact or tag in {store}")
    return GoneError(
        f"the tag {reference!r} points at {tag.digest[:12]}, which is no longer in {store}; get it "
        f"from a store that has it with `rarefy artifact pull URL#{reference}`, or move the tag"
    )


def moved(
    tag: Tag | None,
    digest: str,
    why: Why = "tag",
    run: str | None = None,
    verdict: str | None = None,
) -> Tag:
    """Return the tag moved to ``digest``; ``verdict`` is the outcome that allowed the move."""
    now = time.time()
    moves: tuple[Move, ...] = ()
    previous = None
    if tag is not None:
        moves, previous = tag.moves, tag.digest
    move = Move(digest=digest, time=now, previous=previous, why=why, run=run, verdict=verdict)
    return Tag(digest=digest, time=now, moves=(*moves, move))


def parse(data: bytes, where: str) -> Tag:
    """Parse a tag's file, named ``where`` in errors. Raises IntegrityError if it is damaged."""
    try:
        return Tag.model_validate_json(data)
    except ValidationError:
        raise IntegrityError(f"{where}: the file is damaged; delete it") from None


def check_name(name: str) -> None:
    """Raise RecipeError if a tag's name is invalid or looks like a digest."""
    if not NAME.fullmatch(name):
        raise RecipeError(f"tag {name!r} is not a valid name; names match {NAME.pattern}")
    if is_beginning(name) or is_sha256(name):
        raise RecipeError(f"tag {name!r} looks like a digest prefix; choose another name")


def check_unmoved(name: str, tag: Tag | None, expect: str | None) -> None:
    """Raise EvidenceError if a tag no longer points at the artifact that a decision was based on.

    ``expect`` is a digest, None for a tag that must not exist, or ``ANY``.
    """
    current = tag.digest if tag else None
    if expect not in (ANY, current):
        raise EvidenceError(
            f"tag {name!r} was moved in the meantime: it pointed at {_short(expect)} when this was "
            f"decided and points at {_short(current)} now; check again before you move it"
        )


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"
