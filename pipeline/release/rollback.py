"""Roll a tag back to an earlier artifact, after verifying the artifact's files."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.store import remote
from pipeline.store.home import Home
from pipeline.store.tags import NoTagError, Tag
from pipeline.terms.errors import IntegrityError, RecipeError
from pipeline.terms.vocabulary import REMOTE_TAG

Ready = Callable[[str], object] | None


def rollback(
    tag: str, home: Home, target: str | None = None, ready: Ready = None
) -> tuple[str, str]:
    """Move a local or remote (``URL#TAG``) tag back; return the digests before and after.

    ``target``: the beginning of a digest in the tag's history; by default the previous one.
    ``ready``: called with the digest to go back to, before the tag moves; what it raises keeps the
    tag where it is.

    Raises RecipeError if there is no such digest, IntegrityError if its files are missing or
    damaged.
    """
    return (_there if REMOTE_TAG in tag else _here)(tag, target, home, ready)


def _there(tag: str, target: str | None, home: Home, ready: Ready) -> tuple[str, str]:
    """Move a remote's tag back; return the digests before and after."""
    url, name = remote.split(tag)
    pointed = remote.find_tag(url, name)
    if pointed is None:
        raise NoTagError(f"no tag {name!r} in {url}", remote.Remote.open(url).tags())
    digest = destination(pointed, tag, target)
    if ready is not None:
        ready(digest)
    remote.move(url, name, digest, expect=pointed.digest, why="rollback")
    return pointed.digest, digest


def _here(tag: str, target: str | None, home: Home, ready: Ready) -> tuple[str, str]:
    """Move a tag of this store back; return the digests before and after."""
    store = home.store()
    pointed = store.find_tag(tag)
    if pointed is None:
        raise NoTagError(f"{tag}: no tag in {store.root}", store.tags())
    digest = destination(pointed, tag, target)
    if digest not in store.digests():
        raise IntegrityError(
            f"{tag}: artifact {digest[:12]} is no longer in this store; get it from a store that "
            f"has it with `rarefy artifact pull URL#{digest[:12]}`"
        )
    store.check(digest)
    if ready is not None:
        ready(digest)
    store.tag(tag, digest, expect=pointed.digest, why="rollback")
    return pointed.digest, digest


def destination(tag: Tag, name: str, target: str | None) -> str:
    """Return the digest to go back to. Raises RecipeError if the tag's history has no such one."""
    if target is None:
        if tag.before is None:
            raise RecipeError(f"{name}: there is nothing before {tag.digest[:12]} to go back to")
        return tag.before
    past = dict.fromkeys(move.digest for move in tag.moves)
    matches = [digest for digest in past if len(target) >= 6 and digest.startswith(target)]
    if len(matches) != 1:
        known = ", ".join(digest[:12] for digest in past)
        raise RecipeError(f"--to {target}: {name} never pointed there; it pointed at {known}")
    if matches[0] == tag.digest:
        raise RecipeError(f"--to {target}: {name} already points there")
    return matches[0]
