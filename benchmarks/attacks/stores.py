"""Damaged stores, runs, logs and remotes."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.attacks import ANY, REFUSED, Attack, Change, shapes

STORE = "home/store"
BUNDLE = f"{STORE}/artifacts/sha256/BUNDLE"
RUN = "home/runs/tiny"
LISTS = (("artifact", "ls"), ("plan", "tiny.yaml"))
VERIFY = ("artifact", "verify", "--all")
USE = ("predict", "production", "fine")
DAMAGE = (6,)


def attacks(template: Path) -> Iterator[Attack]:
    """Yield the attacks; ``template``: the project that they will change copies of."""
    bundle = (template / RUN / "bundle" / "manifest.json").read_bytes()
    digest = _digest(bundle)
    yield from _indexes(template, digest)
    yield from _artifacts(template, digest)
    yield from _runs(template)
    yield from _remotes(template, digest)


def _digest(manifest: bytes) -> str:
    import hashlib

    return hashlib.sha256(manifest).hexdigest()


def _indexes(template: Path, digest: str) -> Iterator[Attack]:
    """The store's own files: its marker, tags, fingerprints and notes."""
    for name, change in shapes.texts(f"{STORE}/store.json"):
        yield Attack(name, change, ("artifact", "ls"), DAMAGE)
    tag = f"{STORE}/tags/production.json"
    for name, change in shapes.texts(tag):
        yield Attack(f"{name}: listed", change, ("artifact", "ls"), DAMAGE)
        yield Attack(f"{name}: used", change, ("predict", "production", "fine"), DAMAGE)
    for name, change in shapes.values(tag, template / tag, 25):
        yield Attack(name, change, ("artifact", "tag"), ANY)
    for kind in ("fingerprints", "notes"):
        codes = ANY if kind == "notes" else (0, 6)
        for name, change in _all_of(f"{STORE}/{kind}"):
            yield Attack(name, change, ("plan", "tiny.yaml"), codes)
            command = ("run", "tiny.yaml", "--engine", "inline", "--threads", "1")
            if "list" in name or "null" in name:
                yield Attack(f"{name}: run", change, command, codes)
    for seed in range(10):
        yield Attack(f"notes: values, {seed}", _notes(seed), ("plan", "tiny.yaml"), ANY)
    for name in ("a" * 300, "..", "../x", "\x1b[31m", "a\nb", "~nobody", "\0"):
        yield Attack(f"a tag {name!r:.20}", lambda _: None, ("artifact", "tag", name, digest), (2,))
        command = ("predict", f"{name}/x", "fine")
        yield Attack(f"a bundle {name!r:.20}", lambda _: None, command, (2,))


def _all_of(folder: str) -> Iterator[tuple[str, Change]]:
    """Yield changes that replace all files of a folder."""
    for name, content in shapes.TEXTS.items():

        def change(project: Path, content: bytes = content) -> None:
            for path in (project / folder).iterdir():
                path.write_bytes(content)

        yield f"all of {folder} is {name}", change


def _notes(seed: int) -> Change:
    """Return a change of one value in each note."""

    def change(project: Path) -> None:
        for path in sorted((project / STORE / "notes").iterdir()):
            changes = list(shapes.values(str(path.relative_to(project)), path, 1, seed))
            for _, inner in changes:
                inner(project)

    return change


def _artifacts(template: Path, digest: str) -> Iterator[Attack]:
    """The files of an artifact, which its digest names."""
    folder = f"{STORE}/artifacts/sha256/{digest}"
    manifest = f"{folder}/manifest.json"
    for name, change in shapes.texts(manifest):
        about = f"manifest: {name[-25:]}"
        yield Attack(f"{about}: verified", change, VERIFY, DAMAGE)
        yield Attack(f"{about}: used", change, USE, DAMAGE)
        yield Attack(f"{about}: listed", change, ("artifact", "ls"), (0, 6))
    for name, change in shapes.values(manifest, template / manifest, 25):
        yield Attack(f"manifest: {name[-40:]}", change, ("predict", digest, "a"), DAMAGE)
    for name, change in shapes.texts(f"{folder}/run.json"):
        about = f"an artifact's run.json: {name[-25:]}"
        for command in LISTS:
            yield Attack(f"{about}: {command[0]}", change, command, (0,))
    yield from _files(template, folder)


def _files(template: Path, folder: str) -> Iterator[Attack]:
    """Each file of an artifact: with another byte, missing, or a pipe."""
    draw = random.Random(0)
    files = [path.name for path in (template / folder).iterdir() if path.is_file()]
    for name in sorted(set(files) - {"run.json"}):
        size = (template / folder / name).stat().st_size
        for at in (0, draw.randrange(size), size - 1):
            change = shapes.flip(f"{folder}/{name}", at)
            yield Attack(f"{name}: byte {at} is another", change, USE, DAMAGE)
        yield Attack(f"{name}: missing", _remove(f"{folder}/{name}"), USE, (2, 6))
        yield Attack(f"{name}: a pipe", shapes.to_pipe(f"{folder}/{name}"), VERIFY, DAMAGE)


def _remove(path: str) -> Change:
    def change(project: Path) -> None:
        place = project / path
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()

    return change


def _locked(path: str) -> Change:
    def change(project: Path) -> None:
        (project / path).chmod(0)

    return change


def _runs(template: Path) -> Iterator[Attack]:
    """A run's folder, the history and the logbook."""
    commands = (("report", "tiny"), ("promote", "tiny", "next"), ("validate", "tiny"))
    for file in ("run.json", "verdict.json"):
        path = f"{RUN}/{file}"
        for name, change in shapes.texts(path):
            for command in commands[: 2 if file == "run.json" else 1]:
                codes = (0, *REFUSED, 4) if file == "verdict.json" else (*REFUSED, 4)
                yield Attack(f"{name}: {command[0]}", change, command, codes)
        for name, change in shapes.values(path, template / path, 30):
            yield Attack(f"{name}: reported", change, ("report", "tiny"), ANY)
        for name, change in shapes.values(path, template / path, 10, 1):
            yield Attack(f"{name}: promoted", change, ("promote", "tiny", "next"), (0, 2, 4, 6))
    for name, content in (("cut", b"x" * 100), ("empty", b""), ("zeros", b"\0" * 5000)):
        change = shapes.writing("home/history.sqlite", content)
        for command in (("history",), ("promote", "tiny", "next")):
            yield Attack(f"history: {name}: {command[0]}", change, command, (*ANY, 4))
        change = shapes.writing(f"{RUN}/answers.safetensors", content)
        yield Attack(f"answers: {name}", change, ("report", "tiny"), REFUSED)
    for name, change in shapes.texts("home/logs/*.json"):
        yield Attack(f"logbook: {name}", change, ("runs", "ls"), (0, 6))
        yield Attack(f"logbook: {name}: planned", change, ("plan", "tiny.yaml"), (0, 6))
    log = next((template / "home/logs").glob("*.json"))
    for name, change in shapes.values("home/logs/*.json", log, 20):
        yield Attack(f"logbook: {name}", change, ("runs", "ls"), (0, 6))
    for path in (f"{RUN}/run.json", "home/history.sqlite", f"{STORE}/tags", f"{STORE}/artifacts"):
        for command in (
            ("report", "tiny"),
            ("history",),
            ("artifact", "ls"),
            ("plan", "tiny.yaml"),
        ):
            change = _locked(path)
            codes = (*ANY, 4)
            yield Attack(f"{path} is locked: {command[0]}", change, command, codes, as_nobody=True)


def _remotes(template: Path, digest: str) -> Iterator[Attack]:
    """Another store, behind a URL."""
    remote = "file:///ROOT/remote"
    pull = ("artifact", "pull", f"{remote}#production")
    folder = f"remote/artifacts/sha256/{digest}"

    def with_remote(change: Change) -> Change:
        def both(project: Path) -> None:
            shutil.copytree(project / STORE, project / "remote")
            shutil.rmtree(project / STORE / "artifacts/sha256" / digest)
            change(project)

        return both

    for name, change in shapes.texts("remote/tags/production.json"):
        yield Attack(f"remote: {name}", with_remote(change), pull, DAMAGE)
    for name, change in shapes.texts(f"{folder}/manifest.json"):
        yield Attack(f"remote: {name[-30:]}", with_remote(change), pull, DAMAGE)
    original = template / STORE / "artifacts/sha256" / digest / "manifest.json"
    for name, change in shapes.values(f"{folder}/manifest.json", original, 15):
        yield Attack(f"remote: {name[-40:]}", with_remote(change), pull, DAMAGE)
    for name, change in shapes.texts(f"{folder}/run.json"):
        yield Attack(f"remote: {name[-30:]}", with_remote(change), pull, (0,))
    record = json.loads(original.with_name("run.json").read_text())
    for key in record:
        hostile = json.dumps(record | {key: "\x1b]0;owned\x07\x1b[31m\r\n::error::x"}).encode()
        change = with_remote(shapes.writing(f"{folder}/run.json", hostile))
        yield Attack(f"remote: run.json: {key} has control characters", change, pull, (0,))
    for name in ("model.onnx", "config.json", "tokenizer.json"):
        for at in (0, 10, 50):
            change = with_remote(shapes.flip(f"{folder}/{name}", at))
            yield Attack(f"remote: {name}: byte {at} is another", change, pull, DAMAGE)
