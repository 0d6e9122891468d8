"""``rarefy bundle``: write a bundle in the form that another tool loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from flows.options import home_option, json_option, show_json, stated_options, tracking_option
from pipeline.store.home import Home

if TYPE_CHECKING:
    from exporters.forms.hub_card import Stated
    from exporters.forms.source import Source
    from pipeline.release.bundles import Bundle
    from pipeline.verdict.provenance import Provenance


@click.command(short_help="Write a bundle in the form that another tool loads.")
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "form",
    required=True,
    type=click.Choice(["hub", "mlflow", "triton"]),
    help="Who loads it.",
)
@click.option("--name", "model", help="mlflow, triton: the model's name; default: the run's.")
@tracking_option
@stated_options
@home_option
@json_option
def bundle(
    name: str,
    out: Path,
    form: str,
    model: str | None,
    tracking: str | None,
    licence: str | None,
    base: str | None,
    datasets: tuple[str, ...],
    home: Home,
    as_json: bool,
) -> int:
    """Write the bundle NAME to the new folder OUT, in the form that another tool loads.

    NAME is a run, a folder, a tag, a digest or URL#TAG. **hub**: a repository of the Hugging Face
    Hub, for transformers.js, sentence-transformers and fastembed. **triton**: a model repository
    for Triton Inference Server, with the tokenizer in an ensemble. **mlflow**: an MLflow model
    with the flavors python_function, which takes text, and, unless it has RMSNorm, onnx; with
    --tracking-uri or MLFLOW_TRACKING_URI, a run is logged on that server, and the model registered.

    Example: `rarefy bundle demo --for hub demo-hub --license apache-2.0`
    """
    from exporters.forms import folder, source
    from exporters.forms.hub_card import Stated
    from pipeline.release import bundles, provenance
    from pipeline.terms.errors import RecipeError

    stated = Stated(licence, base, datasets)
    _check_options(form, model, tracking, stated)
    folder.check_new(out)
    found = bundles.find(name, home)
    if out.resolve().is_relative_to(found.directory.resolve()):
        raise RecipeError(f"{out}: this is inside the bundle itself; name another folder")
    known = provenance.of(found, home)
    named, more = model or known.name or "model", {}
    with folder.whole(out) as fresh:
        bundles.check_bytes(found)
        digest = found.manifest.digest if found.manifest else None
        read = source.read(found.directory, found.name, digest)
        if form == "hub":
            from exporters.forms import hub

            hub.write(read, fresh, known, stated)
        elif form == "triton":
            from exporters.forms import triton

            triton.write(read, fresh, named)
        else:
            from exporters.forms import mlflow

            if not mlflow.write(read, fresh):
                click.echo("note: no flavor onnx, as ONNX's checker refuses the graph", err=True)
            more = _register(found, read, known, tracking, model or known.name)
    missing = stated.missing(known) if form == "hub" else []
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    if as_json:
        show_json(
            {"bundle": found.digest, "for": form, "out": str(out), "files": files}
            | {"verdict": known.verdict.outcome if known.verdict else None}
            | {"missing": missing, **more, "exit_code": 0}
        )
        return 0
    click.echo(f"{out}: {len(files)} files for {form}")
    if more:
        click.echo(f"{more['model']} version {more['version']} on {more['tracking_uri']}")
    if known.caveat:
        click.echo(f"note: {known.caveat}", err=True)
    for what in missing:
        click.echo(f"note: the card does not name the {what}", err=True)
    return 0


def _check_options(form: str, model: str | None, tracking: str | None, stated: Stated) -> None:
    """Raise UsageError if an option is given that the form has no place for."""
    for option, given, forms in (
        ("--name", model, ("mlflow", "triton")),
        ("--tracking-uri", tracking, ("mlflow",)),
        ("--license, --base-model and --dataset", any(vars(stated).values()), ("hub",)),
    ):
        if given and form not in forms:
            raise click.UsageError(f"{option}: only with --for {' or '.join(forms)}")


def _register(
    found: Bundle, read: Source, known: Provenance, tracking: str | None, named: str | None
) -> dict[str, Any]:
    """Register the model on the tracking server, if there is one; return what --json says of it.

    Raises RecipeError if it has no name: bundles of other tasks would be versions of one model.
    """
    from exporters.forms import mlflow_registry
    from pipeline.release import provenance
    from pipeline.terms.errors import RecipeError

    uri = mlflow_registry.address(tracking)
    if uri is None:
        return {}
    if named is None:
        raise RecipeError("no run is known of this bundle, so its model has no name; give --name")
    pages = provenance.pages(known, found)
    done = mlflow_registry.register(read, known, pages, uri, named)
    return {"model": done.model, "version": done.version, "run": done.run, "tracking_uri": uri}
