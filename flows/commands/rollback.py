"""``rarefy rollback``: a tag goes back to what it pointed at before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from flows.options import Home, home_option, json_option, show_json

if TYPE_CHECKING:
    from pipeline.tags import Tag


@click.command(short_help="Move a tag back to what it pointed at before.")
@click.argument("tag")
@click.option("--to", "target", metavar="DIGEST", help="Back to this one of its history.")
@home_option
@json_option
def rollback(tag: str, target: str | None, home: Home, as_json: bool) -> int:
    """Point TAG at what it pointed at before its last move; a second time, one move further back.

    The old bytes are hashed first: damage ends with 6, and the tag stays. TAG may be a remote's,
    URL#TAG. `rarefy artifact show TAG` shows the history.

    Example: `rarefy rollback production`
    """
    from pipeline.recipe import REMOTE_TAG

    before, digest = (_there if REMOTE_TAG in tag else _here)(tag, target, home)
    if as_json:
        show_json({"tag": tag, "digest": digest, "from": before})
    else:
        click.echo(f"{tag} -> {digest[:12]} (was {before[:12]})")
    return 0


def _there(tag: str, target: str | None, home: Home) -> tuple[str, str]:
    """Move a remote's tag back; return the digests before and after."""
    from pipeline import remote
    from pipeline.tags import NoTagError

    url, name = remote.split(tag)
    found = remote.find_tag(url, name)
    if found is None:
        raise NoTagError(f"no tag {name!r} in {url}", remote.Remote.open(url).tags())
    digest = destination(found, tag, target)
    remote.rollback(url, name, digest, expect=found.digest)
    return found.digest, digest


def _here(tag: str, target: str | None, home: Home) -> tuple[str, str]:
    """Move a tag of this store back; return the digests before and after."""
    from pipeline.errors import IntegrityError
    from pipeline.store import REMEDY
    from pipeline.tags import NoTagError

    store = home.store()
    found = store.find_tag(tag)
    if found is None:
        raise NoTagError(f"{tag}: no tag in {store.root}", store.tags())
    digest = destination(found, tag, target)
    if digest not in store.digests():
        raise IntegrityError(
            f"{tag}: the bytes of {digest[:12]} are not in this store any more; `rarefy artifact "
            f"pull URL#{digest[:12]}` brings them from a store that has them"
        )
    if problems := store.verify(digest):
        raise IntegrityError(f"artifact {digest[:12]} is damaged: {problems[0]}; {REMEDY}")
    store.tag(tag, digest, expect=found.digest, why="rollback")
    return found.digest, digest


def destination(tag: Tag, name: str, target: str | None) -> str:
    """Return the digest to go back to. Raises RecipeError where the history has none such."""
    from pipeline.errors import RecipeError

    if target is None:
        if tag.before is None:
            raise RecipeError(f"{name}: there is nothing before {tag.digest[:12]} to go back to")
        return tag.before
    past = dict.fromkeys(move.digest for move in tag.moves)
    found = [digest for digest in past if len(target) >= 6 and digest.startswith(target)]
    if len(found) != 1:
        known = ", ".join(digest[:12] for digest in past)
        raise RecipeError(f"--to {target}: {name} never was there; it was at {known}")
    if found[0] == tag.digest:
        raise RecipeError(f"--to {target}: {name} is there already")
    return found[0]
