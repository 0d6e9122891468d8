"""``rarefy bundle``: write a bundle in the form that another tool loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import (
    home_option,
    json_option,
    show_json,
    stated_options,
    tracking_option,
)
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.exporters.forms.hub_card import Stated
    from rarefy.exporters.forms.source import Source
    from rarefy.pipeline.release.bundles import Bundle
    from rarefy.pipeline.verdict.provenance import Provenance


@click.command(short_help="Write a bundle in the format of another tool.")
@click.argument("name", shell_complete=completion.runs_and_tags)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "form",
    required=True,
    type=click.Choice(["hub", "mlflow", "triton"]),
    help="The tool that loads the bundle.",
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
) -> None:
    """Write the bundle NAME to the new folder OUT, in the format that another tool loads.

    NAME is a run, a folder, a tag, a digest or URL#TAG. **hub**: a repository of the Hugging Face
    Hub, for transformers.js, sentence-transformers and fastembed. **triton**: a model repository
    for Triton Inference Server, with the tokenizer in an ensemble. **mlflow**: an MLflow model
    with the flavors python_function, which takes text, and onnx, unless the model has RMSNorm or is
    for OpenVINO; with --tracking-uri or MLFLOW_TRACKING_URI, a run is logged on that server, and
    the model registered.

    Example: `rarefy bundle demo --for hub demo-hub --license apache-2.0`
    """
    from rarefy.exporters.forms import folder, source
    from rarefy.exporters.forms.hub_card import Stated
    from rarefy.pipeline.release import bundles, provenance
    from rarefy.pipeline.terms.errors import RecipeError

    stated = Stated(licence, base, datasets)
    _check_options(form, model, tracking, stated)
    folder.check_new(out)
    files = bundles.find(name, home)
    if out.resolve().is_relative_to(files.directory.resolve()):
        raise RecipeError(f"{out}: this is inside the bundle itself; name another folder")
    origin = provenance.of(files, home)
    model = model or origin.name
    missing = []
    registered: dict[str, Any] = {}
    with folder.whole(out) as draft:
        bundles.check_bytes(files)
        digest = files.manifest.digest if files.manifest else None
        contents = source.read(files.directory, files.name, digest)
        if form == "hub":
            from rarefy.exporters.forms import hub

            hub.write(contents, draft, origin, stated)
            missing = stated.missing(origin)
        elif form == "triton":
            from rarefy.exporters.forms import triton

            triton.write(contents, draft, model or "model")
        else:
            from rarefy.exporters.forms import mlflow

            if not mlflow.write(contents, draft):
                reason = "ONNX's checker rejects the graph"
                if contents.provider == "openvino":
                    reason = "the bundle is for OpenVINO, which python_function runs"
                click.echo(f"note: no flavor onnx, as {reason}", err=True)
            registered = _register(files, contents, origin, tracking, model)
    paths = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    if as_json:
        show_json(
            {
                "bundle": files.digest,
                "for": form,
                "out": str(out),
                "files": paths,
                "verdict": origin.verdict.outcome if origin.verdict else None,
                "missing": missing,
                **registered,
                "exit_code": 0,
            }
        )
        return
    click.echo(f"{out}: {len(paths)} files for {form}")
    if registered:
        version, uri = registered["version"], registered["tracking_uri"]
        click.echo(f"{registered['model']} version {version} on {uri}")
    if origin.caveat:
        click.echo(f"note: {origin.caveat}", err=True)
    for field in missing:
        click.echo(f"note: the card does not name the {field}", err=True)


def _check_options(form: str, model: str | None, tracking: str | None, stated: Stated) -> None:
    """Raise UsageError if an option is given that the form has no place for."""
    if model and form == "hub":
        raise click.UsageError("--name: only with --for mlflow or triton")
    if tracking and form != "mlflow":
        raise click.UsageError("--tracking-uri: only with --for mlflow")
    if any(vars(stated).values()) and form != "hub":
        raise click.UsageError("--license, --base-model and --dataset: only with --for hub")


def _register(
    files: Bundle, contents: Source, origin: Provenance, tracking: str | None, model: str | None
) -> dict[str, Any]:
    """Register a bundle on the tracking server, if there is one; return what --json says of it.

    Args:
        files: The bundle.
        contents: What the forms need of its files.
        origin: The run that made the bundle, and its verdict.
        tracking: The value of --tracking-uri.
        model: The registered model's name.

    Raises:
        RecipeError: There is no name: bundles of other tasks would be versions of one model.
    """
    from rarefy.exporters.forms import mlflow_registry
    from rarefy.pipeline.release import provenance
    from rarefy.pipeline.terms.errors import RecipeError

    uri = mlflow_registry.address(tracking)
    if uri is None:
        return {}
    if model is None:
        raise RecipeError("no run of this bundle was found, so its model has no name; give --name")
    pages = provenance.pages(origin, files)
    version = mlflow_registry.register(contents, origin, pages, uri, model)
    return {
        "model": version.model,
        "version": version.version,
        "run": version.run,
        "tracking_uri": uri,
    }
