"""``rarefy artifact push`` and ``pull``: copy artifacts between this store and another one."""

from __future__ import annotations

import rich_click as click

from rarefy.flows.console.options import home_option, json_option, show_json
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.wording import size


@click.command(short_help="Copy an artifact to another store: s3://, gs://, az://, file://.")
@click.argument("reference", metavar="REF")
@click.argument("url", metavar="URL")
@click.option("--tag", metavar="NAME", help="Point this tag of that store at the artifact.")
@home_option
@json_option
def push(reference: str, url: str, tag: str | None, home: Home, as_json: bool) -> None:
    """Copy REF to the store at URL; files that the store already has are not sent again.

    Only REF itself is sent, not the artifacts that it was made from. Credentials are read from
    the environment, as the cloud's own tools do.

    Example: `rarefy artifact push production s3://models/rarefy --tag production`
    """
    from rarefy.pipeline.store.remote import artifacts

    store = home.store()
    digest = store.open(reference).digest
    sent = artifacts.push(store, digest, url, tag)
    if as_json:
        show_json({"digest": digest, "url": url, "tag": tag, "bytes": sent})
        return
    click.echo(f"{url}#{tag or digest[:12]} -> {digest[:12]}; sent {size(sent)}")


@click.command(short_help="Copy an artifact from another store; its hashes are checked first.")
@click.argument("address", metavar="URL#REF")
@click.option("--tag", metavar="NAME", help="Point this tag of this store at the artifact.")
@home_option
@json_option
def pull(address: str, tag: str | None, home: Home, as_json: bool) -> None:
    """Copy REF, a tag or a digest, from the store at URL; an existing artifact is kept.

    Example: `rarefy artifact pull s3://models/rarefy#production --tag production`
    """
    from rarefy.pipeline.store.remote import artifacts
    from rarefy.pipeline.store.tags import check_name

    if tag is not None:
        check_name(tag)
    store = home.store()
    artifact = artifacts.pull(store, *artifacts.split(address))
    if tag is not None:
        store.tag(tag, artifact.digest)
    if as_json:
        show_json({"digest": artifact.digest, "kind": artifact.kind, "tag": tag})
        return
    click.echo(f"{artifact.digest} ({artifact.kind})" + (f", {tag}" if tag else ""))
