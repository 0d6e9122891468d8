"""``rarefy promote``: a tag moves to a bundle that passed, and to no other."""

from __future__ import annotations

import rich_click as click

from flows.options import home_option, json_option, show_json
from pipeline.store.home import Home


@click.command(short_help="Move a tag to a run's bundle, if its verdict is a pass.")
@click.argument("run")
@click.argument("tag", default="production")
@click.option(
    "--to", "url", metavar="URL", help="Push it to this store too, and move the tag there."
)
@home_option
@json_option
def promote(run: str, tag: str, url: str | None, home: Home, as_json: bool) -> int:
    """Point TAG (default: production) at the bundle of RUN: a run, its folder, or a digest.

    The bundle's bytes are hashed, and the verdict must be of this very bundle. A missed budget
    ends with 3, anything but a pass with 4, damage with 6, and the tag stays where it is. So it
    does where the run was compared with TAG, and TAG has moved since, and where a newer verdict
    of the recipe on this bundle, of `rarefy ci` or `rarefy validate`, is no pass.

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
    click.echo(_told(tag, done.digest, done.before))
    if url is not None:
        click.echo(f"{url}#{tag} -> {done.digest[:12]}")
    return 0


def _told(tag: str, digest: str, before: str | None) -> str:
    if before == digest:
        return f"{tag} is {digest[:12]} already"
    return f"{tag} -> {digest[:12]}" + (f" (was {before[:12]})" if before else "")
