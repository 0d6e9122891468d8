"""``rarefy promote``: move a tag to a bundle, but only if the bundle's verdict is a pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from rarefy.flows.console.options import alias_options, home_option, json_option, show_json
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.exporters.forms.mlflow_registry import Alias


@click.command(short_help="Move a tag to a run's bundle if its verdict is a pass.")
@click.argument("run")
@click.argument("tag", default="production")
@click.option(
    "--to", "url", metavar="URL", help="Also push the bundle to this store, and move the tag there."
)
@alias_options
@home_option
@json_option
def promote(
    run: str,
    tag: str,
    url: str | None,
    registered: str | None,
    tracking: str | None,
    home: Home,
    as_json: bool,
) -> int:
    """Point TAG (default: production) at the bundle of RUN: a run, its folder or a digest.

    As everywhere, a bare name is looked up among the runs first, and ./NAME is a folder.
    URL#DIGEST is a bundle in another store, with the verdicts that deployed runs left in its runs/.
    The bundle's bytes are hashed again, and the verdict must be on exactly these bytes. If there
    is a newer verdict on this bundle, from `rarefy ci` or `rarefy validate`, it must also be a
    pass. Otherwise the tag does not move, and the exit code is 3 for a missed budget, 6 for
    damaged files, and 4 if there is no passing verdict for another reason, such as an inconclusive
    one, or a TAG that has moved since the run was compared with it, or that points at a bundle for
    another task; 2 and 5 as everywhere.
    With --mlflow, the model that `rarefy bundle --for mlflow` registered gets the alias TAG; if it
    is not registered, nothing moves.

    Example: `rarefy promote demo production --to s3://models/rarefy`
    """
    from rarefy.pipeline.release import promotion

    alias = follow(registered, tracking, tag)
    try:
        done = promotion.promote(run, tag, home, url, alias.find if alias else None)
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
    if alias is not None:
        alias.move()
    if as_json:
        show_json(
            {"tag": tag, "digest": done.digest, "run": str(done.run), "moved": done.moved}
            | {"from": done.before, "pushed": url, **said(alias), "exit_code": 0}
        )
        return 0
    click.echo(_moved(tag, done.digest, done.before))
    if url is not None:
        click.echo(f"{url}#{tag} -> {done.digest[:12]}")
    if alias is not None:
        click.echo(f"{alias.model}@{alias.alias} -> version {alias.version}")
    return 0


def follow(registered: str | None, tracking: str | None, tag: str) -> Alias | None:
    """Return the alias that follows a tag, or None if none is to; its names are checked.

    Raises RecipeError if MLflow would not allow them, or no tracking server is known.
    """
    if registered is None:
        return None
    from rarefy.exporters.forms import mlflow_registry
    from rarefy.pipeline.terms.recipe_parts import REMOTE_TAG

    name = tag.rpartition(REMOTE_TAG)[2]
    alias = mlflow_registry.Alias(mlflow_registry.address(tracking), registered, name)
    alias.check()
    return alias


def said(alias: Alias | None) -> dict[str, str | None]:
    """Return what --json says of an alias."""
    return {} if alias is None else {"model": alias.model, "version": alias.version}


def _moved(tag: str, digest: str, before: str | None) -> str:
    if before == digest:
        return f"{tag} already points at {digest[:12]}"
    return f"{tag} -> {digest[:12]}" + (f" (was {before[:12]})" if before else "")
