"""``rarefy promote``: move a tag to a bundle, but only if the bundle's verdict is a pass."""

from __future__ import annotations

import rich_click as click

from flows.options import home_option, json_option, show_json
from pipeline.store.home import Home


@click.command(short_help="Move a tag to a run's bundle if its verdict is a pass.")
@click.argument("run")
@click.argument("tag", default="production")
@click.option(
    "--to", "url", metavar="URL", help="Also push the bundle to this store, and move the tag there."
)
@home_option
@json_option
def promote(run: str, tag: str, url: str | None, home: Home, as_json: bool) -> int:
    """Point TAG (default: production) at the bundle of RUN: a run, its folder or a digest.

    The bundle's bytes are hashed again, and the verdict must be on exactly these bytes. If there
    is a newer verdict on this bundle, from `rarefy ci` or `rarefy validate`, it must also be a
    pass. Otherwise the tag does not move, and the exit code is 3 for a missed budget, 6 for
    damaged files, and 4 for any other reason, such as an inconclusive verdict, or a TAG that has
    moved since the run was compared with it, or that points at a bundle for another task.

    Example: `rarefy promote demo production --to s3://models/rarefy`
    """
    from pipeline.release import promotion

    try:
        done = promotion.promote(run, tag, home, url)
    except promotion.MissedError as error:
        if not as_json:
            for reason in error.missed:
                click.echo(f"missed: {reason}", err=True)
            raise
        show_json(
            {"tag": tag, "digest": error.digest, "run": str(error.run), "moved": False}
            | {"missed": error.missed, "exit_code": error.exit_code}
        )
        return error.exit_code
    if as_json:
        show_json(
            {"tag": tag, "digest": done.digest, "run": str(done.run), "moved": done.moved}
            | {"from": done.before, "pushed": url, "exit_code": 0}
        )
        return 0
    click.echo(_moved(tag, done.digest, done.before))
    if url is not None:
        click.echo(f"{url}#{tag} -> {done.digest[:12]}")
    return 0


def _moved(tag: str, digest: str, before: str | None) -> str:
    if before == digest:
        return f"{tag} already points at {digest[:12]}"
    return f"{tag} -> {digest[:12]}" + (f" (was {before[:12]})" if before else "")
