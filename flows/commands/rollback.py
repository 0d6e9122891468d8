"""``rarefy rollback``: a tag goes back to what it pointed at before."""

from __future__ import annotations

import rich_click as click

from flows.options import home_option, json_option, show_json
from pipeline.store.home import Home


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
    from pipeline.release import rollback as rules

    before, digest = rules.rollback(tag, home, target)
    if as_json:
        show_json({"tag": tag, "digest": digest, "from": before})
    else:
        click.echo(f"{tag} -> {digest[:12]} (was {before[:12]})")
    return 0
