"""``rarefy hub push``: upload a bundle to the Hugging Face Hub."""

from __future__ import annotations

import rich_click as click

from flows.options import home_option, json_option, show_json, stated_options
from pipeline.store.home import Home


@click.group(short_help="Upload bundles to the Hugging Face Hub.")
def hub() -> None:
    """Work with the Hugging Face Hub. HF_TOKEN and HF_ENDPOINT are read from the environment."""


@hub.command(short_help="Upload a bundle in the Hub's form, in one commit.")
@click.argument("name")
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="If the repository is new, make it private.")
@click.option("--revision", metavar="BRANCH", help="The branch to commit to; default: main.")
@stated_options
@home_option
@json_option
def push(
    name: str,
    repository: str,
    private: bool,
    revision: str | None,
    licence: str | None,
    base: str | None,
    datasets: tuple[str, ...],
    home: Home,
    as_json: bool,
) -> int:
    """Upload the bundle NAME to OWNER/NAME, with the files of `rarefy bundle --for hub`.

    The repository and the branch are made if there are none. Files of the same names, such as
    config.json and README.md, are replaced, and others stay; a note names weights among them. The
    token is read from HF_TOKEN, or from where `hf auth login` stored it.

    Example: `rarefy hub push demo my-org/reviews --private --license apache-2.0`
    """
    import tempfile
    from pathlib import Path

    from exporters.forms import hub as form
    from exporters.forms import hub_push, source
    from exporters.forms.hub_card import Stated
    from pipeline.release import bundles, provenance
    from pipeline.store import disk

    hub_push.check(repository)
    found = bundles.find(name, home)
    known, stated = provenance.of(found, home), Stated(licence, base, datasets)
    # NAME may be a path of this machine, and the message is for everybody.
    of = f" {found.digest[:12]}" if found.manifest else ""
    message = f"{known.name or 'bundle'}{of}, by rarefy"
    temporary = tempfile.TemporaryDirectory(prefix="rarefy-hub-")
    with temporary as folder, disk.speaking(Path(folder)):
        bundles.check_bytes(found)
        digest = found.manifest.digest if found.manifest else None
        form.write(
            source.read(found.directory, found.name, digest),
            Path(folder),
            known,
            stated,
            repository,
        )
        address = hub_push.push(
            Path(folder), repository, private=private, revision=revision, message=message
        )
        others = hub_push.other_weights(Path(folder), repository, revision)
    if as_json:
        show_json(
            {"bundle": found.digest, "repository": repository, "commit": address}
            | {"verdict": known.verdict.outcome if known.verdict else None}
            | {"missing": stated.missing(known), "other_weights": others, "exit_code": 0}
        )
        return 0
    click.echo(f"{repository} <- {found.digest[:12]}: {address}")
    if known.caveat:
        click.echo(f"note: {known.caveat}", err=True)
    if others:
        click.echo(
            f"note: {', '.join(others)}: still there, and config.json and the card are of this "
            "bundle now; if they are of another model, push to a repository or a --revision of "
            "its own",
            err=True,
        )
    for what in stated.missing(known):
        click.echo(f"note: the card does not name the {what}", err=True)
    return 0
