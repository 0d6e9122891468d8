"""Hostile and broken input: at least 1,000 attacks, each of which must end as it should.

    python -m benchmarks.hostile [--only WORDS] [--jobs 1] [--list]

Each attack changes a copy of a small project with a finished run (``benchmarks/attacks``: recipes,
data, models, bundles, stores, secrets) and runs one command in a process that is forked for it. It
must end within 30 s and 2 GB, with the exit code that is right, an error of one line, no control
character on the terminal, no secret anywhere, and every artifact and tag that was whole must be
there afterwards. About 10 minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.attacks import Attack, bundles, data, models, recipes, secrets, stores
from benchmarks.record import Claim, finish

SEED = 0
KINDS: dict[str, Callable[[Path], Iterator[Attack]]] = {
    "recipes": recipes.attacks,
    "data": data.attacks,
    "models": models.attacks,
    "bundles": bundles.attacks,
    "stores": stores.attacks,
    "secrets": secrets.attacks,
}
AT_LEAST, SHARE = 1000, 0.99
SECONDS, BYTES = 30.0, 2_000_000_000
SPACE = 6_000_000_000
"""Bytes of address space that an attack may take beyond this process's own."""
NOBODY = 65534
MOST = 10_000_000
STAGES = """\
stages:
  - finetune: {epochs: 4, batch_size: 8, learning_rate: 0.001}
  - export
  - validate: {processes: 2, seconds: 1, rows: 20, memory: false, cold_starts: 0}
budgets:
  - {metric: accuracy, max_drop: 60 points, against: finetune}
  - {metric: parameters, max: 100000000}
"""
LETTERS = ("abcdef", "ghijkl")
"""Of which the texts of each label are."""


def main() -> int:
    """Try every attack, print those that did not end as they should, and record the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="of attacks whose name has this, and no record")
    parser.add_argument("--every", type=int, default=1, help="one of so many, and no record")
    parser.add_argument("--folder", type=Path, help="where the project is kept")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="name the attacks, and try none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rarefy-hostile-") as temporary:
        folder = Path(temporary)
        template = (options.folder or folder) / "template"
        if not template.exists():
            _in_child(lambda: _make_project(template))
        named = list(_named(template).items())[:: options.every]
        chosen = {name: attack for name, attack in named if options.only in name}
        if options.list:
            print("\n".join(chosen))
            return 0
        _preload()
        rows = _try_all(chosen, template, folder, options.jobs)
    wrong = [row for row in rows if row["problems"]]
    print(f"{len(rows) - len(wrong)} of {len(rows)} attacks ended as they should")
    if options.only or options.every > 1:
        return 3 if wrong else 0
    return finish("hostile", [*_summary(rows), *wrong], claims(rows), SEED)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what is claimed of the attacks: nearly all end as they should, and none in a crash."""
    right = sum(not row["problems"] for row in rows)
    crashed = sum(row["crashed"] for row in rows)
    passed = sum(row["passed"] for row in rows)
    lost = sum(row["lost"] for row in rows)
    seconds = max(row["seconds"] for row in rows)
    memory = max(row["bytes"] for row in rows)
    return [
        Claim(
            "attacks end with one line and the right exit code, in 2 GB and 30 s",
            f"{SHARE:.0%} of at least {AT_LEAST:,}",
            f"{right:,} of {len(rows):,}; {seconds:.1f} s and {memory / 1e9:.2f} GB at most",
            len(rows) >= AT_LEAST and right >= SHARE * len(rows),
        ),
        Claim(
            "no attack ends in a crash, or passes where it must not",
            "0",
            f"{crashed} crashes, {passed} wrong passes",
            crashed == 0 and passed == 0,
        ),
        Claim("nothing that was published is lost", "0 attacks", f"{lost} attacks", lost == 0),
    ]


def _summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each kind how many attacks there were, and how they ended."""
    summary = []
    for kind in KINDS:
        of_kind = [row for row in rows if row["name"].startswith(f"{kind}: ")]
        codes = Counter(str(row["code"]) for row in of_kind)
        right = sum(not row["problems"] for row in of_kind)
        seconds = round(sum(row["seconds"] for row in of_kind), 1)
        summary.append(
            {"kind": kind, "attacks": len(of_kind), "right": right, "seconds": seconds}
            | {"codes": dict(sorted(codes.items()))}
        )
    return summary


def _named(template: Path) -> dict[str, Attack]:
    """Return all attacks by their kind and name; a second one of a name gets a number."""
    named: dict[str, Attack] = {}
    for kind, attacks in KINDS.items():
        for attack in attacks(template):
            name = f"{kind}: {attack.name}"
            if name in named:
                name += f" ({len(named)})"
            named[name] = attack
    return named


def _preload() -> None:
    """Import what commands import, once for all processes that are forked."""
    import fileinput
    import sqlite3

    import onnx
    import onnxruntime
    import pandas
    import pyarrow.parquet
    import tokenizers
    import torch
    import transformers

    import rarefy.flows.cli
    import rarefy.flows.console.options
    import rarefy.pipeline.run.plan.plan

    torch.set_num_threads(1)
    used = (
        fileinput,
        sqlite3,
        onnx,
        onnxruntime,
        pandas,
        pyarrow,
        tokenizers,
        transformers,
        rarefy,
    )
    assert all(used)


def _make_project(folder: Path) -> None:
    """Write a model, data and a recipe into a folder, run the recipe and promote its bundle."""
    import json
    import random

    from benchmarks.engine_cost import tiny_model
    from rarefy.flows.cli import main as rarefy

    folder.mkdir(parents=True)
    os.chdir(folder)
    tiny_model(folder / "model")
    draw = random.Random(SEED)
    for split, count in (("train", 120), ("eval", 40)):
        rows = []
        for row in range(count):
            words = draw.choices(LETTERS[row % 2], k=6)
            rows.append(json.dumps({"text": " ".join(words), "label": ("yes", "no")[row % 2]}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    data_lines = "name: tiny\nmodel: model\ndata: {train: train.jsonl, eval: eval.jsonl}\n"
    (folder / "tiny.yaml").write_text(data_lines + STAGES)
    os.environ["RAREFY_HOME"] = "home"
    for command in (
        ["run", "tiny.yaml", "--engine", "inline", "--threads", "1", "-q"],
        ["promote", "tiny", "production"],
    ):
        try:
            rarefy(command)
        except SystemExit as ended:
            if ended.code:
                raise


def _in_child(work: Callable[[], None]) -> None:
    """Do some work in a process of its own. Raises SystemExit if it fails."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit("the project's recipe did not pass")


def _try_all(
    attacks: dict[str, Attack], template: Path, folder: Path, jobs: int
) -> list[dict[str, Any]]:
    """Try all attacks, ``jobs`` at once, and return a row for each."""
    rows: list[dict[str, Any]] = []
    waiting = list(attacks.items())[::-1]
    running: list[Attempt] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            name, attack = waiting.pop()
            project = folder / f"attack-{len(waiting)}"
            running.append(Attempt(name, attack, template, project))
        for attempt in [*running]:
            row = attempt.ended()
            if row is not None:
                if row["problems"]:
                    print(f"{row['name']}: {'; '.join(row['problems'])}", flush=True)
                rows.append(row)
                running.remove(attempt)
        time.sleep(0.01)
    return rows


class Attempt:
    """An attack that is being tried, in a copy of the project and a process of its own."""

    def __init__(self, name: str, attack: Attack, template: Path, project: Path) -> None:
        self.name, self.attack, self.project = name, attack, project
        shutil.copytree(template, project, symlinks=True)
        attack.change(project)
        self.published = _published(project)
        self.began = time.monotonic()
        reader, writer = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            _command(attack, project, writer)
        os.close(writer)
        self._output = b""
        self._reading = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._reading.start()

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, "rb") as file:
            self._output = file.read(MOST)

    def ended(self) -> dict[str, Any] | None:
        """Return the attack's row, None if it still runs; end it if it takes too long."""
        child, status, usage = os.wait4(self.child, os.WNOHANG)
        seconds = time.monotonic() - self.began
        if not child:
            if seconds > 4 * SECONDS:  # of the clock: other work may have the cores
                os.killpg(self.child, signal.SIGKILL)
            return None
        self._reading.join(1)
        text = self._output.decode(errors="backslashreplace")
        code = os.waitstatus_to_exitcode(status)
        spent = usage.ru_utime + usage.ru_stime
        memory = usage.ru_maxrss * 1024
        lost = sorted(self.published - _published(self.project))
        problems = _problems(self.attack, code, text)
        if lost:
            problems.append(f"lost: {lost[0]}")
        if spent > SECONDS or code == -signal.SIGKILL:
            problems.append(f"{spent:.0f} s")
        if memory > BYTES:
            problems.append(f"{memory / 1e9:.1f} GB")
        if self.attack.secret and _holds(self.project, self.attack.secret.encode()):
            problems.append("a file holds the secret")
        shutil.rmtree(self.project, onerror=_unlock)
        return {
            "name": self.name,
            "code": code,
            "seconds": round(spent, 2),
            "bytes": memory,
            "problems": problems,
            "crashed": code not in (0, 2, 3, 4, 5, 6),
            "passed": code == 0 and 0 not in self.attack.codes,
            "lost": bool(lost),
        }


def _command(attack: Attack, project: Path, writer: int) -> None:
    """Run an attack's command in this process, which it ends."""
    code = 70
    try:
        os.setsid()
        os.chdir(project)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        # New streams: those of the parent may be of a file, which has places, as a pipe has not.
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ |= {"RAREFY_HOME": "home", "GITHUB_ACTIONS": "true"}
        space = _address_space() + SPACE
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if attack.as_nobody:
            _become_nobody(project)
        from rarefy.flows.cli import main as rarefy

        rarefy([word.replace("ROOT", str(project)) for word in attack.command])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _become_nobody(project: Path) -> None:
    """Go on as another user, who owns the project but for what is locked."""
    for folder, _, names in os.walk(project):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            if path.lstat().st_mode & 0o777:
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    for around in (project.parent, project.parent.parent):
        if around.stat().st_uid == os.getuid() and around != Path(tempfile.gettempdir()):
            around.chmod(0o755)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def _problems(attack: Attack, code: int, text: str) -> list[str]:
    """Return what was wrong with how a command ended, in words."""
    problems = []
    text = text.replace("\r\n", "\n")
    lines = text.splitlines()
    errors = [line for line in lines if line.startswith("rarefy: ")]
    last = (errors or lines or [""])[-1][:300]
    if code not in attack.codes:
        problems.append(f"exit {code}: {last}")
    # A wrong command line shows how it is used; `recipe check` and `verify` list all errors.
    lists = attack.command[0] == "recipe" or attack.command[:2] == ("artifact", "verify")
    several = "Usage: " in text or lists
    if code in (2, 5, 6) and len(errors) != 1 and not several:
        problems.append(f"{len(errors)} lines of errors: {last}")
    if "Traceback" in text:
        problems.append(f"a traceback: {lines[-1][:200]}")
    controls = {sign for sign in text if not sign.isprintable() and sign not in "\n\t"}
    if controls:
        problems.append(f"control characters: {sorted(controls)}")
    if any(line.startswith(("::", "##[")) for line in lines):
        problems.append("a workflow command")
    if attack.secret and attack.secret in text:
        problems.append("the secret is shown")
    return problems


def _published(project: Path) -> frozenset[tuple[str, int, int]]:
    """Return the artifacts' files and the tags, with size and time of change."""
    store = project / "home" / "store"
    published = set()
    for path in (*store.glob("artifacts/sha256/*/**/*"), *store.glob("tags/*.json")):
        status = path.lstat()
        if path.is_file():
            name = str(path.relative_to(project))
            published.add((name, status.st_size, status.st_mtime_ns))
    return frozenset(published)


def _holds(project: Path, secret: bytes) -> bool:
    """Return whether a file under the home contains these bytes."""
    files = (path for path in (project / "home").rglob("*") if path.is_file())
    return any(secret in path.read_bytes() for path in files)


def _unlock(remove: Callable[[str], object], path: str, _: object) -> None:
    """Delete again what could not be deleted in a folder that may only be read."""
    Path(path).parent.chmod(0o700)
    remove(path)


if __name__ == "__main__":
    raise SystemExit(main())
