"""Models and data at https:// and s3://: what each fault of a server says, and what it leaves.

    python -m benchmarks.sources

A tiny model and its rows are on a server of this machine, which speaks to both clients: the web's,
and that of S3, whose endpoint it is. For each kind of source and each fault, `rarefy plan` reads a
recipe that names it; then the server is well again, and so must the next command be. An error has
one line and its exit code, and leaves nothing that the store or the downloads take for whole. Takes
about a minute.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.record import Claim, finish
from rarefy.flows.cli import main as command_line
from tests import web as webs
from tests.project import write_project
from tests.web import Web

RECIPE = """\
name: sources
model: {model}
data: {{train: {train}, eval: {eval}}}
stages: [finetune]
"""
FILES = {"data": "train.jsonl", "model": "encoder/model.safetensors"}
"""What is faulty of each kind of source."""
WRONG = f"#sha256={'0' * 64}"
CODES = {
    "none": 0,
    "404": 2,
    "ETag changes between plan and run": 2,
    "ETag changes during the download": 2,
    "connection cut once": 0,
    "connection cut every time": 5,
    "no permission (403)": 5,
    "no server": 5,
    "wrong digest": 6,
}
"""Fault -> the exit code of the command that meets it."""
FOREVER = 10**6


@dataclass
class Case:
    """A source with a fault: what the command ended with, and what it left."""

    client: str
    kind: str
    fault: str
    code: int = -1
    lines: int = 0
    message: str = ""
    stored: int = 0
    recovered: bool = False

    @property
    def right(self) -> bool:
        """Whether all is as it should be."""
        expected = CODES[self.fault]
        quiet = expected == 0 or (self.lines == 1 and self.stored == 0)
        return self.code == expected and quiet and self.recovered


def run(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it wrote to stderr."""
    said = io.StringIO()
    code: object = None
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            command_line(list(arguments))
        except SystemExit as end:
            code = end.code
    return int(str(code or 0)), said.getvalue()


def serve(web: Web, project: Path) -> None:
    """Give the server the model and the rows, without a fault."""
    web.mend()
    web.files.clear()
    for path in (*project.glob("encoder/*"), *project.glob("*.jsonl")):
        web.files[f"bucket/{path.relative_to(project).as_posix()}"] = path.read_bytes()


def break_down(web: Web, path: str, fault: str) -> None:
    """Give the server a fault with one file."""
    if fault == "404":
        del web.files[path]
    elif fault == "ETag changes between plan and run":
        web.files[path] += b"\n"
    elif fault == "ETag changes during the download":
        web.changes[path] = web.files[path] + b"\n"
    elif fault.startswith("connection cut"):
        web.cut, web.cuts = 100, 1 if fault.endswith("once") else FOREVER
    elif fault == "no permission (403)":
        del web.files[path]
        web.denied.add(path)


def write_recipe(case: Case, web: Web, folder: Path) -> Path:
    """Write the recipe that names the source, and local files for what is not faulty."""
    root = f"{web.url}/bucket" if case.client == "https" else "s3://bucket"
    values = {"model": "encoder", "train": "train.jsonl", "eval": "eval.jsonl"}
    key = {"data": "train", "model": "model"}[case.kind]
    digest = WRONG if case.fault == "wrong digest" else ""
    values[key] = f"'{root}/{values[key]}{digest}'"
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(**values))
    return recipe


def measure(case: Case, web: Web, project: Path) -> None:
    """Let a command meet the fault, and another one the server without it."""
    serve(web, project)
    with tempfile.TemporaryDirectory(prefix="rarefy-home-") as name:
        home = Path(name) / "home"
        recipe = str(write_recipe(case, web, project))
        if case.fault == "ETag changes between plan and run":
            run("plan", recipe, "--home", str(home))
        before = whole(home)
        break_down(web, f"bucket/{FILES[case.kind]}", case.fault)
        with no_server(case.fault == "no server", web, recipe):
            case.code, said = run("plan", recipe, "--home", str(home))
        case.lines = said.count("\n")
        case.message = said.strip()
        case.stored = len(whole(home) - before)
        serve(web, project)
        Path(recipe).write_text(Path(recipe).read_text().replace(WRONG, ""))
        case.recovered = run("plan", recipe, "--home", str(home))[0] == 0


@contextlib.contextmanager
def no_server(gone: bool, web: Web, recipe: str):  # type: ignore[no-untyped-def]
    """Let the recipe and the environment name a port on which nobody answers, if ``gone``."""
    path = Path(recipe)
    text, endpoint = path.read_text(), os.environ["AWS_ENDPOINT_URL"]
    if gone:
        path.write_text(text.replace(web.url, "http://127.0.0.1:9"))
        os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        forget_clients()
    yield
    path.write_text(text)
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    if gone:
        forget_clients()


def forget_clients() -> None:
    """Let the next command open clients of its own, as in another process."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def whole(home: Path) -> set[Path]:
    """Return the artifacts of the store, and the downloads that are whole."""
    return {*home.glob("store/artifacts/sha256/*"), *home.glob("downloads/*/SHA256SUMS")}


def main() -> int:
    """Let every source meet every fault, and record what came of it."""
    cases = []
    for client in ("https", "s3"):
        for kind in FILES:
            cases += [Case(client, kind, fault) for fault in CODES]
    with tempfile.TemporaryDirectory(prefix="rarefy-sources-") as name, webs.served() as web:
        project = Path(name)
        write_project(project)
        os.environ |= {
            "AWS_ENDPOINT_URL": web.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }
        for case in cases:
            measure(case, web, project)
            word = "ok   " if case.right else "WRONG"
            print(f"{word} {case.client} {case.kind}, {case.fault}: {case.code} {case.message}")
    rows = [asdict(case) | {"right": case.right} for case in cases]
    for row in rows:  # the port is another at each time
        row["message"] = row["message"].replace(web.url, "http://localhost")
    count = sum(case.right for case in cases)
    claim = Claim(
        "faults of a server that end with their exit code and one line, leave nothing whole, and "
        "are over when the server is well again",
        "all",
        f"{count} of {len(cases)}",
        count == len(cases),
    )
    return finish("sources", rows, [claim], seed=0)


if __name__ == "__main__":
    sys.exit(main())
