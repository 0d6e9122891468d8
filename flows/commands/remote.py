"""``rarefy artifact push`` and ``pull``: artifacts between this store and another one."""

from __future__ import annotations

import rich_click as click

from flows.options import home_option, json_option, show_json
from pipeline.store.home import Home
from pipeline.terms.wording import size


@click.command(short_help="Copy an artifact to another store: s3://, gs://, az://, file://.")
@click.argument("reference", metavar="REF")
@click.argument("url", metavar="URL")
@click.option("--tag", metavar="NAME", help="Point this tag there at it.")
@home_option
@json_option
def push(reference: str, url: str, tag: str | None, home: Home, as_json: bool) -> None:
    """Copy REF to the store at URL; what is there already is not sent again.

    A bundle stands alone: what it was made from is not sent. Credentials come from the
    environment, as the cloud's own tools read them.

    Example: `rarefy artifact push production s3://models/rarefy --tag production`
    """
    from pipeline.store import remote

    store = home.store()
    digest = store.open(reference).digest
    sent = remote.push(store, digest, url, tag)
    if as_json:
        show_json({"digest": digest, "url": url, "tag": tag, "bytes": sent})
        return
    click.echo(f"{url}#{tag or digest[:12]} is {digest[:12]}; {size(sent)} sent")


@click.command(short_help="Bring an artifact from another store, hashed before it is published.")
@click.argument("address", metavar="URL#REF")
@click.option("--tag", metavar="NAME", help="Point this tag here at it.")
@home_option
@json_option
def pull(address: str, tag: str | None, home: Home, as_json: bool) -> None:
    """Bring REF, a tag or digest of the store at URL; what is here already is not brought again.

    Example: `rarefy artifact pull s3://models/rarefy#production --tag production`
    """
    from pipeline.store import remote
    from pipeline.store.tags import check_name

    if tag is not None:
        check_name(tag)
    store = home.store()
    artifact = remote.pull(store, *remote.split(address))
    if tag is not None:
        store.tag(tag, artifact.digest)
    if as_json:
        show_json({"digest": artifact.digest, "kind": artifact.kind, "tag": tag})
        return
    click.echo(f"{artifact.digest} ({artifact.kind})" + (f", {tag}" if tag else ""))
