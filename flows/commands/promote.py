"""``rarefy promote`` and ``rollback``: move a tag to a bundle that passed, and move it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import alias_options, home_option, json_option, show_json
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.exporters.forms.mlflow_registry import Alias


@click.command(short_help="Move a tag to a run's bundle if its verdict is a pass.")
@click.argument("run", shell_complete=completion.runs)
@click.argument("tag", default="production", shell_complete=completion.tags)
@click.option(
    "--store",
    "url",
    metavar="URL",
    help="Also push the bundle to this store, and move the tag there.",
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
    pass. Otherwise the tag does not move.

    Exit codes: 3 budget missed · 4 no passing verdict, TAG has moved since the run was compared
    with it, or TAG points at a bundle for another task · 6 damaged files.

    With --mlflow, the model that `rarefy bundle --for mlflow` registered gets the alias TAG; if it
    is not registered, nothing moves.

    Example: `rarefy promote demo production --store s3://models/rarefy`
    """
    from rarefy.pipeline.release import promotion

    alias = _alias(registered, tracking, tag)
    find_version = alias.find if alias else None
    try:
        promoted = promotion.promote(run, tag, home, url, find_version)
    except promotion.MissedError as error:
        if not as_json:
            for reason in error.missed:
                click.echo(f"missed: {reason}", err=True)
            raise
        show_json(
            {
                "tag": tag,
                "digest": error.digest,
                "run": str(error.run),
                "moved": False,
                "missed": error.missed,
                "exit_code": error.exit_code,
            }
        )
        return error.exit_code
    if alias is not None:
        alias.move()
    if as_json:
        show_json(
            {
                "tag": tag,
                "digest": promoted.digest,
                "run": str(promoted.run),
                "moved": promoted.moved,
                "from": promoted.before,
                "pushed": url,
                "warned": list(promoted.warned),
                **_alias_json(alias),
                "exit_code": 0,
            }
        )
        return 0
    if promoted.warned:
        names = ", ".join(promoted.warned)
        click.echo(f"warning: the verdict is a pass without these: {names}", err=True)
    if promoted.before == promoted.digest:
        click.echo(f"{tag} already points at {promoted.digest[:12]}")
    else:
        _show_move(tag, promoted.digest, promoted.before)
    if url is not None:
        click.echo(f"{url}#{tag} -> {promoted.digest[:12]}")
    _show_alias(alias)
    return 0


@click.command(short_help="Move a tag back to the artifact it pointed at before.")
@click.argument("tag", shell_complete=completion.tags)
@click.option(
    "--artifact",
    "target",
    metavar="DIGEST",
    help="Move back to this artifact of the tag's history.",
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
) -> None:
    """Undo the last move of TAG. Each further rollback goes one move further back.

    The artifact's bytes are hashed first. If they are damaged, the tag does not move and the exit
    code is 6. TAG may be a tag of a remote store, URL#TAG. `rarefy artifact show TAG` shows the
    history. With --mlflow, the model's alias of the tag's name moves with it; if no version of the
    model is the earlier artifact, nothing moves.

    Example: `rarefy rollback production`
    """
    from rarefy.pipeline.release import promotion

    alias = _alias(registered, tracking, tag)
    find_version = alias.find if alias else None
    before, digest = promotion.rollback(tag, home, target, find_version)
    if alias is not None:
        alias.move()
    if as_json:
        show_json({"tag": tag, "digest": digest, "from": before, **_alias_json(alias)})
        return
    _show_move(tag, digest, before)
    _show_alias(alias)


def _alias(registered: str | None, tracking: str | None, tag: str) -> Alias | None:
    """Return the alias in MLflow that follows a tag, or None if none is to.

    Args:
        registered: The name of the registered model, or None.
        tracking: The tracking server; None: MLFLOW_TRACKING_URI.
        tag: The tag, perhaps of a remote store.

    Raises:
        RecipeError: MLflow would not allow the names, or no tracking server is known.
    """
    if registered is None:
        return None
    from rarefy.exporters.forms import mlflow_registry
    from rarefy.pipeline.terms.recipe_parts import REMOTE_TAG

    name = tag.rpartition(REMOTE_TAG)[2]
    address = mlflow_registry.address(tracking)
    alias = mlflow_registry.Alias(address, registered, name)
    alias.check()
    return alias


def _alias_json(alias: Alias | None) -> dict[str, str | None]:
    """Return what --json prints of an alias."""
    if alias is None:
        return {}
    return {"model": alias.model, "version": alias.version}


def _show_alias(alias: Alias | None) -> None:
    if alias is not None:
        click.echo(f"{alias.model}@{alias.alias} -> version {alias.version}")


def _show_move(tag: str, digest: str, before: str | None) -> None:
    """Print where a tag points now and, if it existed, where it pointed before."""
    line = f"{tag} -> {digest[:12]}"
    if before:
        line += f" (was {before[:12]})"
    click.echo(line)
