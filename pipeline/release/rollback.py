"""The rules of a rollback: a tag goes back to what it pointed at, once the bytes are hashed."""

from __future__ import annotations

from pipeline.store import remote
from pipeline.store.home import Home
from pipeline.store.store import REMEDY
from pipeline.store.tags import NoTagError, Tag
from pipeline.terms.errors import IntegrityError, RecipeError
from pipeline.terms.vocabulary import REMOTE_TAG


def rollback(tag: str, home: Home, target: str | None = None) -> tuple[str, str]:
    """Move a tag of this store, or a remote's (``URL#TAG``), back; return before and after.

    ``target``: the beginning of a digest in the tag's history; by default the one before.
    Raises RecipeError if there is no such digest, IntegrityError if its bytes are gone or damaged.
    """
    return (_there if REMOTE_TAG in tag else _here)(tag, target, home)


def _there(tag: str, target: str | None, home: Home) -> tuple[str, str]:
    """Move a remote's tag back; return the digests before and after."""
    url, name = remote.split(tag)
    pointed = remote.find_tag(url, name)
    if pointed is None:
        raise NoTagError(f"no tag {name!r} in {url}", remote.Remote.open(url).tags())
    digest = destination(pointed, tag, target)
    remote.rollback(url, name, digest, expect=pointed.digest)
    return pointed.digest, digest


def _here(tag: str, target: str | None, home: Home) -> tuple[str, str]:
    """Move a tag of this store back; return the digests before and after."""
    store = home.store()
    pointed = store.find_tag(tag)
    if pointed is None:
        raise NoTagError(f"{tag}: no tag in {store.root}", store.tags())
    digest = destination(pointed, tag, target)
    if digest not in store.digests():
        raise IntegrityError(
            f"{tag}: the bytes of {digest[:12]} are not in this store any more; `rarefy artifact "
            f"pull URL#{digest[:12]}` brings them from a store that has them"
        )
    if problems := store.verify(digest):
        raise IntegrityError(f"artifact {digest[:12]} is damaged: {problems[0]}; {REMEDY}")
    store.tag(tag, digest, expect=pointed.digest, why="rollback")
    return pointed.digest, digest


def destination(tag: Tag, name: str, target: str | None) -> str:
    """Return the digest to go back to. Raises RecipeError where the history has none such."""
    if target is None:
        if tag.before is None:
            raise RecipeError(f"{name}: there is nothing before {tag.digest[:12]} to go back to")
        return tag.before
    past = dict.fromkeys(move.digest for move in tag.moves)
    matches = [digest for digest in past if len(target) >= 6 and digest.startswith(target)]
    if len(matches) != 1:
        known = ", ".join(digest[:12] for digest in past)
        raise RecipeError(f"--to {target}: {name} never was there; it was at {known}")
    if matches[0] == tag.digest:
        raise RecipeError(f"--to {target}: {name} is there already")
    return matches[0]
