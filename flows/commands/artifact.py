"""``rarefy artifact``: list, verify, tag, compare and delete the artifacts of the store."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.commands.remote import pull, push
from rarefy.flows.console.options import home_option, json_option, show_json, show_table, stdout
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms import wording

if TYPE_CHECKING:
    from rarefy.pipeline.store.artifact import Artifact
    from rarefy.pipeline.store.store import Store
    from rarefy.pipeline.store.tags import Move


@click.group(short_help="List, show, verify, tag, push, pull, compare and delete artifacts.")
def artifact() -> None:
    """Manage the store. REF is a tag, a digest, or at least the first six digits of a digest."""


artifact.add_command(push)
artifact.add_command(pull)


@artifact.command("ls", short_help="List artifacts with kind, stage, digest, size, age and tags.")
@click.option("--kind", help="Only artifacts of this kind: bundle, checkpoint, …")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Artifacts to list; with --json, all are.",
)
@home_option
@json_option
def list_artifacts(kind: str | None, limit: int, home: Home, as_json: bool) -> None:
    """List the artifacts in the store, newest first; tags in parentheses pointed there before.

    Example: `rarefy artifact ls --kind bundle`
    """
    from rich.table import Table

    rows = [row for row in listing(home.store()) if kind in (None, row["kind"])]
    if as_json:
        show_json(rows)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("kind", "stage", "digest", "size", "age", "tags"):
        right = column in ("size", "age")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "digest")
    for row in rows[:limit]:
        table.add_row(
            row["kind"],
            row["stage"],
            row["digest"][:12],
            wording.size(row["size"]),
            "" if row["age"] is None else wording.duration(row["age"]),
            " ".join([*row["tags"], *(f"({name})" for name in row["past_tags"])]),
        )
    show_table(table)
    if len(rows) > limit:
        click.echo(f"the newest {limit} of {len(rows):,}; --limit lists more", err=True)


@artifact.command(short_help="Show an artifact's manifest, run record and lineage.")
@click.argument("reference", metavar="REF")
@home_option
@json_option
def show(reference: str, home: Home, as_json: bool) -> None:
    """Show the manifest, run record and lineage of REF; for a tag, also its history of moves.

    Example: `rarefy artifact show production`
    """
    store = home.store()
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
    _show(stored, tags, parents)
    for move in reversed(moves):
        stdout().print(f"{'history':<12} {told(move)}", soft_wrap=True)


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
    digests = store.digests() if everything else [_digest(store, name) for name in references]
    checked: dict[str, list[str]] = {}
    newer = 0
    for digest in digests:
        try:
            checked[digest] = store.verify(digest)
        except NewerError as error:
            checked[digest] = [str(error)]
            newer += 1
        except RecipeError:
            if not everything:
                raise
            # Another process has just deleted it.
    damaged = sum(1 for problems in checked.values() if problems) - newer
    if as_json:
        show_json([{"digest": d, "ok": not p, "problems": p} for d, p in checked.items()])
    else:
        for digest, problems in checked.items():
            click.echo(f"{digest[:12]} {'; '.join(problems) or 'ok'}")
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
    help="Keep what was made or used in this many days.",
)
@click.option("--damaged", is_flag=True, help="Delete only artifacts that fail verification.")
@click.option("--yes", is_flag=True, help="Delete; without it, only list what would be deleted.")
@home_option
@json_option
def gc(days: float, damaged: bool, yes: bool, home: Home, as_json: bool) -> None:
    """Delete artifacts that no tag needs and no run used for --days, and what dead runs left.

    A tag needs the artifact that it points at, those of its last 10 moves, because
    `rarefy rollback` may go back to them, and everything that these were made from. What a running
    process uses and what a newer version of rarefy made is kept, too. Remote stores are never
    changed.

    Example: `rarefy artifact gc --days 30 --yes`
    """
    from rarefy.pipeline.store.garbage import Collector

    collector = Collector(home.store(), days=days, damaged=damaged)
    disposable = collector.find()
    if yes:  # what is needed by now stays
        disposable = collector.delete_all(disposable)
    freed = sum(garbage.size for garbage in disposable)
    if as_json:
        rows = [{"path": str(g.path), "size": g.size, "reason": g.reason} for g in disposable]
        show_json({"deleted": yes, "bytes": freed, "garbage": rows})
        return
    for garbage in disposable:
        click.echo(f"{garbage.path.name[:12]} {wording.size(garbage.size):>9}  {garbage.reason}")
    done = "deleted" if yes else "would be deleted; --yes deletes them"
    click.echo(f"{len(disposable)} ({wording.size(freed)}) {done}", err=True)


@artifact.command(short_help="Show how two artifacts differ.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@home_option
@json_option
def diff(first: str, second: str, home: Home, as_json: bool) -> None:
    """Compare the parameters, parents, data, files and metrics of A and B.

    Example: `rarefy artifact diff production 3fa2b1c0`
    """
    store = home.store()
    rows = differences(store.open(first), store.open(second))
    if as_json:
        show_json([{"what": what, "a": a, "b": b} for what, a, b in rows])
        return
    for what, a, b in rows:
        click.echo(f"{what}: {a} -> {b}")
    if not rows:
        click.echo("no differences", err=True)


def listing(store: Store) -> list[dict[str, Any]]:
    """Return every artifact's kind, stage, digest, size, age in seconds and tags, newest first."""
    from rarefy.pipeline.store import disk
    from rarefy.pipeline.store import listing as listed
    from rarefy.pipeline.store.artifact import NewerError
    from rarefy.pipeline.terms.errors import IntegrityError, RecipeError

    rows = []
    tags: dict[str, list[str]] = {}
    past: dict[str, list[str]] = {}
    for name, tag in store.all_tags().items():
        tags.setdefault(tag.digest, []).append(name)
        for digest in {move.digest for move in tag.moves} - {tag.digest}:
            past.setdefault(digest, []).append(name)
    for digest in store.digests():
        row: dict[str, Any] = {"kind": "damaged", "stage": "", "digest": digest, "size": 0}
        row |= {"age": None, "tags": tags.get(digest, []), "past_tags": past.get(digest, [])}
        try:
            found = listed.read(store, digest)
            now = time.time()
            made = found.started or disk.changed(store.directory(digest)) or now
            age = round(now - made, 1)
            row |= {"kind": found.kind, "stage": found.stage, "size": found.size, "age": age}
        except NewerError:
            row["kind"] = "newer"
        except RecipeError:
            continue  # another process has just deleted it
        except IntegrityError:
            pass  # listed as damaged; `verify` shows what is wrong
        rows.append(row)
    return sorted(rows, key=lambda row: (row["age"] is None, row["age"]))


def told(move: Move) -> str:
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
    todo = [(parent.digest, parent.role) for parent in stored.manifest.parents]
    while todo:
        digest, role = todo.pop(0)
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
        todo += [(each.digest, each.role) for each in parent.manifest.parents]
    return rows


def differences(first: Artifact, second: Artifact) -> list[tuple[str, Any, Any]]:
    """Return (name, first value, second value) for each difference; None if one lacks it."""
    a, b = _facts(first), _facts(second)
    return [
        (key, a.get(key), b.get(key))
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    ]


def _facts(stored: Artifact) -> dict[str, Any]:
    """Return the facts of an artifact that ``diff`` compares, under dotted names."""
    manifest = stored.manifest
    facts: dict[str, Any] = {
        "kind": str(manifest.kind),
        "stage": manifest.stage.name,
        "version": manifest.stage.version,
        "source": manifest.source.reference if manifest.source else None,
    }
    facts |= {f"parameters.{key}": value for key, value in manifest.stage.parameters.items()}
    for role in {each.role for each in manifest.parents}:  # a report has several references
        digests = [each.digest[:12] for each in manifest.parents if each.role == role]
        facts[f"parents.{role}"] = ", ".join(digests)
    facts |= {f"data.{each.split}": each.sha256[:12] for each in manifest.data}
    facts |= {f"model.{key}": value for key, value in manifest.model.items()}
    facts |= {
        f"files.{each.path}": f"{each.sha256[:12]} ({each.size} B)" for each in manifest.files
    }
    for metric in manifest.metrics:
        facts[f"metrics.{'.'.join(filter(None, (metric.split, metric.name)))}"] = metric.value
    return facts


def _show(stored: Artifact, tags: list[str], parents: list[dict[str, Any]]) -> None:
    manifest = stored.manifest
    console = stdout()
    stage = manifest.stage
    lines = [
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
    lines += [("parameter", f"{key}: {value}") for key, value in stage.parameters.items()]
    lines += [("data", f"{d.split}: {d.rows} rows, sha256 {d.sha256[:12]}") for d in manifest.data]
    lines += [("model", f"{key}: {value}") for key, value in manifest.model.items()]
    for metric in manifest.metrics:
        bounded = metric.low is not None and metric.high is not None
        bounds = f" [{metric.low:.4g}, {metric.high:.4g}]" if bounded else ""
        lines.append(("metric", f"{metric.name}: {metric.value:.6g}{bounds}"))
    lines += [("run", f"{key}: {value}") for key, value in stored.run_record().items()]
    lines += [("file", f"{e.path}  {wording.size(e.size)}  {e.role}") for e in manifest.files]
    for row in parents:
        what = f"{row['stage']} ({row['kind']})" if row["stage"] else "not in the store"
        lines.append(("from", f"{row['digest'][:12]}  {row['role']}: {what}"))
    for key, value in lines:
        console.print(f"{key:<12} {value}", soft_wrap=True)


def _digest(store: Store, name: str) -> str:
    """Return what a name stands for. Raises RecipeError if there is nothing (any more)."""
    digest = store.resolve(name)
    return digest if store.directory(digest).is_dir() else store.open(name).digest
