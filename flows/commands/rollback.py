"""``rarefy rollback``: move a tag back to the artifact that it pointed at before."""

from __future__ import annotations

import rich_click as click

from rarefy.flows.commands.promote import follow, said
from rarefy.flows.console.options import alias_options, home_option, json_option, show_json
from rarefy.pipeline.store.home import Home


@click.command(short_help="Move a tag back to the artifact it pointed at before.")
@click.argument("tag")
@click.option(
    "--to", "target", metavar="DIGEST", help="Move back to this artifact of the tag's history."
)
@alias_options
@home_option
@json_option
def rollback(
    tag: str,
    target: str | None,
    registered: str | None,
    tracking: str | None,
    home: Home,
    as_json: bool,
) -> int:
    """Undo the last move of TAG. Each further rollback goes one move further back.

    The artifact's bytes are hashed first. If they are damaged, the tag does not move and the exit
    code is 6. TAG may be a tag of a remote store, URL#TAG. `rarefy artifact show TAG` shows the
    history. With --mlflow, the model's alias of the tag's name moves with it; if no version of the
    model is the earlier artifact, nothing moves.

    Example: `rarefy rollback production`
    """
    from rarefy.pipeline.release import promotion

    alias = follow(registered, tracking, tag)
    before, digest = promotion.rollback(tag, home, target, alias.find if alias else None)
    if alias is not None:
        alias.move()
    if as_json:
        show_json({"tag": tag, "digest": digest, "from": before} | said(alias))
        return 0
    click.echo(f"{tag} -> {digest[:12]} (was {before[:12]})")
    if alias is not None:
        click.echo(f"{alias.model}@{alias.alias} -> version {alias.version}")
    return 0
