"""``rarefy artifact``: list, verify, tag, copy and delete the artifacts of the store."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import (
    home_option,
    json_option,
    plain_table,
    show_json,
    show_table,
    stdout,
)
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms import wording

if TYPE_CHECKING:
    from rarefy.pipeline.store.artifact import Artifact
    from rarefy.pipeline.store.store import Store
    from rarefy.pipeline.store.tags import Move


@click.group(short_help="List, show, verify, tag, push, pull and delete artifacts.")
def artifact() -> None:
    """Manage the store. REF is a tag, a digest, or at least the first six digits of a digest."""


@artifact.command("ls", short_help="List artifacts with kind, stage, digest, size, age and tags.")
@click.option("--kind", help="Only artifacts of this kind: bundle, checkpoint, …")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Number of artifacts to list; --json lists all.",
)
@home_option
@json_option
def list_artifacts(kind: str | None, limit: int, home: Home, as_json: bool) -> None:
    """List the artifacts in the store, newest first; tags in parentheses pointed there before.

    Example: `rarefy artifact ls --kind bundle`
    """
    rows = [row for row in listing(home.store()) if kind in (None, row["kind"])]
    if as_json:
        show_json(rows)
        return
    table = plain_table(
        *("kind", "stage", "digest", "size", "age", "tags"),
        right=("size", "age"),
        whole=("digest",),
    )
    for row in rows[:limit]:
        age = ""
        if row["age"] is not None:
            age = wording.duration(row["age"])
        past_tags = [f"({name})" for name in row["past_tags"]]
        tags = " ".join(row["tags"] + past_tags)
        size = wording.size(row["size"])
        table.add_row(row["kind"], row["stage"], row["digest"][:12], size, age, tags)
    show_table(table)
    if len(rows) > limit:
        click.echo(f"the newest {limit} of {len(rows):,}; --limit lists more", err=True)


@artifact.command(short_help="Show an artifact's manifest, run record and lineage.")
@click.argument("reference", metavar="REF", shell_complete=completion.runs_and_tags)
@home_option
@json_option
def show(reference: str, home: Home, as_json: bool) -> None:
    """Show the manifest, run record and lineage of REF; for a tag, also its history of moves.

    REF may also be the name of a run, whose bundle is shown.

    Example: `rarefy artifact show production`
    """
    from rarefy.pipeline.release import bundles

    store = home.store()
    if bundles.is_run(reference, home):
        stored = bundles.find(reference, home).artifact
    else:
        stored = store.open(reference)
    tags = tags_of(store, stored.digest)
    parents = lineage(store, stored)
    tag = store.find_tag(reference)
    moves = tag.moves if tag else ()
    if as_json:
        show_json(
            {
                "digest": stored.digest,
                "directory": str(stored.directory),
                "tags": tags,
                "manifest": stored.manifest.model_dump(mode="json", by_alias=True),
                "run": stored.run_record(),
                "lineage": parents,
                "history": [move.model_dump(by_alias=True) for move in moves],
            }
        )
        return
    show_artifact(stored, tags, parents)
    for move in reversed(moves):
        stdout().print(f"{'history':<12} {describe_move(move)}", soft_wrap=True)


@artifact.command(short_help="Hash files again; exit 6 if one is damaged.")
@click.argument("references", metavar="[REF]…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Verify every artifact in the store.")
@home_option
@json_option
def verify(references: tuple[str, ...], everything: bool, home: Home, as_json: bool) -> int:
    """Hash every file of REF again and compare the hashes with the manifest.

    Example: `rarefy artifact verify --all`
    """
    from rarefy.pipeline.store.artifact import NewerError
    from rarefy.pipeline.terms.errors import IntegrityError, RecipeError

    if everything == bool(references):
        raise click.UsageError("give the artifacts to verify, or --all")
    store = home.store()
    digests = [_digest(store, name) for name in references]
    if everything:
        digests = store.digests()
    problems: dict[str, list[str]] = {}
    newer = 0
    for digest in digests:
        try:
            problems[digest] = store.verify(digest)
        except NewerError as error:
            problems[digest] = [str(error)]
            newer += 1
        except RecipeError:
            if not everything:
                raise
            # Another process has just deleted it.
    damaged = len(list(filter(None, problems.values()))) - newer
    if as_json:
        rows = []
        for digest, reasons in problems.items():
            rows.append({"digest": digest, "ok": not reasons, "problems": reasons})
        show_json(rows)
    else:
        for digest, reasons in problems.items():
            click.echo(f"{digest[:12]} {'; '.join(reasons) or 'ok'}")
        if damaged:
            click.echo(
                f"{damaged} damaged; `rarefy artifact gc --damaged --yes` deletes them, and the "
                "next run creates them again",
                err=True,
            )
    return IntegrityError.exit_code if damaged or newer else 0


@artifact.command(short_help="Point a tag at an artifact, or delete a tag.")
@click.argument("name")
@click.argument("reference", metavar="[REF]", required=False)
@click.option(
    "--delete", is_flag=True, help="Delete the tag and its history; the artifact is kept."
)
@home_option
@json_option
def tag(name: str, reference: str | None, delete: bool, home: Home, as_json: bool) -> None:
    """Point the tag NAME at REF, whatever its verdict. `rarefy artifact gc` keeps tagged artifacts.

    `rarefy promote` moves a tag only if the verdict is a pass.

    Example: `rarefy artifact tag production 3fa2b1c0`
    """
    if delete == bool(reference):
        raise click.UsageError("give NAME and REF, or NAME and --delete")
    store = home.store()
    digest = None
    if reference is None:
        store.untag(name)
    else:
        digest = store.open(reference).digest
        store.tag(name, digest)
    if as_json:
        show_json({"tag": name, "digest": digest})
        return
    click.echo(f"{name} -> {digest[:12]}" if digest else f"deleted {name}")


@artifact.command(short_help="Delete artifacts that no tag needs; a dry run without --yes.")
@click.option(
    "--days",
    type=click.FloatRange(0),
    default=14.0,
    show_default=True,
    help="Keep artifacts made or used in the last DAYS days.",
)
@click.option("--damaged", is_flag=True, help="Delete only artifacts that fail verification.")
@click.option("--yes", is_flag=True, help="Delete; without it, only list what would be deleted.")
@home_option
@json_option
def gc(days: float, damaged: bool, yes: bool, home: Home, as_json: bool) -> None:
    """Delete artifacts that no tag needs and no run used for --days, and files of dead runs.

    A tag needs the artifact that it points at, those of its last 10 moves, because
    `rarefy rollback` may go back to them, and everything that these were made from. Artifacts
    that a running process uses or a newer version of rarefy made are also kept. Remote stores
    are never changed.

    Example: `rarefy artifact gc --days 30 --yes`
    """
    from rarefy.pipeline.store.garbage import Collector

    collector = Collector(home.store(), days=days, damaged=damaged)
    disposable = collector.find()
    if yes:  # what is needed by now stays
        disposable = collector.delete_all(disposable)
    freed = sum(garbage.size for garbage in disposable)
    if as_json:
        rows = []
        for garbage in disposable:
            path = str(garbage.path)
            rows.append({"path": path, "size": garbage.size, "reason": garbage.reason})
        show_json({"deleted": yes, "bytes": freed, "garbage": rows})
        return
    for garbage in disposable:
        click.echo(f"{garbage.path.name[:12]} {wording.size(garbage.size):>9}  {garbage.reason}")
    done = "deleted" if yes else "would be deleted; --yes deletes them"
    click.echo(f"{len(disposable)} ({wording.size(freed)}) {done}", err=True)


@artifact.command(short_help="Copy an artifact to another store: s3://, gs://, az://, file://.")
@click.argument("reference", metavar="REF", shell_complete=completion.runs_and_tags)
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
    click.echo(f"{url}#{tag or digest[:12]} -> {digest[:12]}; sent {wording.size(sent)}")


@artifact.command(short_help="Copy an artifact from another store; its hashes are checked first.")
@click.argument("address", metavar="URL#REF")
@click.option("--tag", metavar="NAME", help="Point this tag of this store at the artifact.")
@home_option
@json_option
def pull(address: str, tag: str | None, home: Home, as_json: bool) -> None:
    """Copy REF, a tag or a digest, from the store at URL; an existing artifact is not replaced.

    Example: `rarefy artifact pull s3://models/rarefy#production --tag production`
    """
    from rarefy.pipeline.store.remote import artifacts
    from rarefy.pipeline.store.tags import check_name

    if tag is not None:
        check_name(tag)
    store = home.store()
    url, reference = artifacts.split(address)
    pulled = artifacts.pull(store, url, reference)
    line = f"{pulled.digest} ({pulled.kind})"
    if tag is not None:
        store.tag(tag, pulled.digest)
        line += f", {tag}"
    if as_json:
        show_json({"digest": pulled.digest, "kind": pulled.kind, "tag": tag})
        return
    click.echo(line)


def listing(store: Store) -> list[dict[str, Any]]:
    """Return every artifact's kind, stage, digest, size, age in seconds and tags, newest first."""
    from rarefy.pipeline.terms.errors import RecipeError

    tags: dict[str, list[str]] = {}
    past_tags: dict[str, list[str]] = {}
    for name, tag in store.all_tags().items():
        tags.setdefault(tag.digest, []).append(name)
        past_digests = {move.digest for move in tag.moves} - {tag.digest}
        for digest in past_digests:
            past_tags.setdefault(digest, []).append(name)
    rows = []
    for digest in store.digests():
        try:
            row = _listed(store, digest)
        except RecipeError:
            continue  # another process has just deleted it
        row["tags"] = tags.get(digest, [])
        row["past_tags"] = past_tags.get(digest, [])
        rows.append(row)
    return sorted(rows, key=lambda row: (row["age"] is None, row["age"]))


def _listed(store: Store, digest: str) -> dict[str, Any]:
    """Return an artifact's kind, stage, digest, size in bytes and age in seconds.

    The kind is "newer" or "damaged" if it cannot be read; `verify` shows what is wrong.
    """
    from rarefy.pipeline.store import disk
    from rarefy.pipeline.store import listing as listed
    from rarefy.pipeline.store.artifact import NewerError
    from rarefy.pipeline.terms.errors import IntegrityError

    row: dict[str, Any] = {"kind": "damaged", "stage": "", "digest": digest, "size": 0, "age": None}
    try:
        entry = listed.read(store, digest)
    except NewerError:
        row["kind"] = "newer"
        return row
    except IntegrityError:
        return row
    now = time.time()
    created = entry.started or disk.changed(store.directory(digest)) or now
    age = round(now - created, 1)
    return row | {"kind": entry.kind, "stage": entry.stage, "size": entry.size, "age": age}


def describe_move(move: Move) -> str:
    """Return one move of a tag as text: time, reason, new and old digest, run and verdict."""
    when = datetime.fromtimestamp(move.time).isoformat(" ", "seconds")
    source = f" (was {move.previous[:12]})" if move.previous else ""
    run = f", run {move.run}: {move.verdict}" if move.run else ""
    return f"{when}  {move.why:<8}  {move.digest[:12]}{source}{run}"


def tags_of(store: Store, digest: str) -> list[str]:
    """Return the tags that point at an artifact."""
    return [name for name, tagged in store.tags().items() if tagged == digest]


def lineage(store: Store, stored: Artifact) -> list[dict[str, Any]]:
    """Return the ancestors of an artifact, nearest first, each once."""
    from rarefy.pipeline.terms.errors import RarefyError

    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    queue = _parents(stored)
    while queue:
        digest, role = queue.pop(0)
        if digest in seen:
            continue
        seen.add(digest)
        row: dict[str, Any] = {"digest": digest, "role": role, "stage": None, "kind": None}
        try:
            parent = store.open(digest)
        except RarefyError:
            rows.append(row)  # it was deleted, or is damaged
            continue
        row |= {"stage": parent.manifest.stage.name, "kind": str(parent.kind)}
        rows.append(row)
        queue += _parents(parent)
    return rows


def _parents(stored: Artifact) -> list[tuple[str, str]]:
    """Return the digest and the role of each artifact that another was made from."""
    return [(parent.digest, parent.role) for parent in stored.manifest.parents]


def show_artifact(stored: Artifact, tags: list[str], parents: list[dict[str, Any]]) -> None:
    """Print an artifact's manifest, run record and lineage, a line for each fact.

    Args:
        stored: The artifact.
        tags: The tags that point at it.
        parents: Its ancestors, as ``lineage`` returns them.
    """
    console = stdout()
    lines = _manifest_lines(stored, tags)
    for key, value in stored.run_record().items():
        lines.append(("run", f"{key}: {value}"))
    for file in stored.manifest.files:
        lines.append(("file", f"{file.path}  {wording.size(file.size)}  {file.role}"))
    for row in parents:
        origin = "not in the store"
        if row["stage"]:
            origin = f"{row['stage']} ({row['kind']})"
        lines.append(("from", f"{row['digest'][:12]}  {row['role']}: {origin}"))
    for key, value in lines:
        console.print(f"{key:<12} {value}", soft_wrap=True)


def _manifest_lines(stored: Artifact, tags: list[str]) -> list[tuple[str, Any]]:
    """Return what a manifest says of an artifact as key and text, without files and parents."""
    manifest = stored.manifest
    stage = manifest.stage
    lines: list[tuple[str, Any]] = [
        ("digest", stored.digest),
        ("kind", manifest.kind),
        ("stage", f"{stage.name}, version {stage.version}"),
        ("directory", stored.directory),
    ]
    if tags:
        lines.append(("tags", " ".join(tags)))
    if manifest.source:
        licence = manifest.source.licence or "not stated"
        lines.append(("source", f"{manifest.source.reference} (licence: {licence})"))
    for key, value in stage.parameters.items():
        lines.append(("parameter", f"{key}: {value}"))
    for data in manifest.data:
        lines.append(("data", f"{data.split}: {data.rows} rows, sha256 {data.sha256[:12]}"))
    for key, value in manifest.model.items():
        lines.append(("model", f"{key}: {value}"))
    for metric in manifest.metrics:
        text = f"{metric.name}: {metric.value:.6g}"
        if metric.low is not None and metric.high is not None:
            text += f" [{metric.low:.4g}, {metric.high:.4g}]"
        lines.append(("metric", text))
    return lines


def _digest(store: Store, name: str) -> str:
    """Return the digest of an artifact's name. Raises RecipeError if there is no artifact."""
    digest = store.resolve(name)
    if not store.directory(digest).is_dir():
        store.open(name)  # raises the error that says what is missing
    return digest
