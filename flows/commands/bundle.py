"""``rarefy bundle``: write a bundle in the form that another tool loads."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from flows.options import home_option, json_option, show_json, stated_options
from pipeline.store.home import Home


@click.command(short_help="Write a bundle in the form that another tool loads.")
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--for", "form", required=True, type=click.Choice(["hub", "triton"]), help="Who loads it."
)
@click.option("--name", "model", help="triton: the model's name; default: the run's.")
@stated_options
@home_option
@json_option
def bundle(
    name: str,
    out: Path,
    form: str,
    model: str | None,
    licence: str | None,
    base: str | None,
    datasets: tuple[str, ...],
    home: Home,
    as_json: bool,
) -> int:
    """Write the bundle NAME to the new folder OUT, in the form that another tool loads.

    NAME is a folder, a run, a tag, a digest or URL#TAG. **hub**: a repository of the Hugging Face
    Hub, for transformers.js, sentence-transformers and fastembed. **triton**: a model repository
    for Triton Inference Server, with the tokenizer in an ensemble.

    Example: `rarefy bundle demo --for hub demo-hub --license apache-2.0`
    """
    from exporters.forms import folder, hub, source, triton
    from exporters.forms.hub_card import Stated
    from pipeline.release import bundles, facts

    folder.check_new(out)
    found = bundles.find(name, home)
    known, stated = facts.of(found, home), Stated(licence, base, datasets)
    with folder.whole(out) as fresh:
        read = source.read(found)
        if form == "hub":
            hub.write(read, fresh, known, stated)
        else:
            triton.write(read, fresh, model or known.name or "model")
    missing = stated.missing(known) if form == "hub" else []
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    if as_json:
        show_json(
            {"bundle": found.digest, "for": form, "out": str(out), "files": files}
            | {"missing": missing, "exit_code": 0}
        )
        return 0
    click.echo(f"{out}: {len(files)} files for {form}")
    for what in missing:
        click.echo(f"note: the card does not name the {what}", err=True)
    return 0
