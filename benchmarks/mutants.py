"""Whether the tests of the third redesign catch each fault that the tests before it caught.

    python -m benchmarks.mutants --home DIR [--workers 2] [--wide]      some hours on two cores

Cosmic Ray draws mutants, with a seed, from the functions whose code is the same before and after.
Each mutant is put into a clone of this commit, and the tests that are near to it run: those whose
files import its module, or a module that imports it, or name its function. If none fails, the
same mutant is put into a clone of the commit before, and the tests near to it there run. With
``--wide``, all tests that are not slow run then as well, at both commits. A kill counts only if
the test that fails passes without the mutant. Tests that hold the text of the source against a
record would kill every mutant, and do not run.

DIR keeps clones, mutants and results, so a run that was stopped goes on; mutants that survived
are tried again when there is a newer commit.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import difflib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.density import FOLDERS
from benchmarks.record import COMMIT, Claim, finish

ROOT = Path(__file__).parents[1]
BEFORE: Final = "2c28af05"
"""The last commit before the redesign."""
TOOL: Final = "cosmic-ray==8.7.0"
COUNT, SEED = 60, 0
A_ROOM: Final = 5
"""How many mutants are drawn from one room at most."""
NEAR: Final = 2
"""Test files up to this many imports away from the mutant's module are near to it."""
NEAR_FILES: Final = 16
"""How many test files are near at most; half as many run their slow tests."""
NEAREST_FILES: Final = 3
SECONDS: Final = 300
"""How long the tests near to a mutant may take. All quick tests may take four times as long, and a
test that takes half as long hangs, which kills the mutant."""
ABOUT_THE_SOURCE: Final = {
    f"test_{name}.py"
    for name in (
        *("action", "contracts", "contributing", "delivery", "density", "docs", "every"),
        *("fingerprints", "layout", "wheel", "house", "mutants"),
    )
}
EQUIVALENT: Final = {"Eq_Is", "NotEq_IsNot", "Is_Eq", "IsNot_NotEq"}
"""Replaced comparisons that make no difference for None, for small numbers and for names."""
NO_BEHAVIOUR: Final = {"cache", "override", "final", "overload", "wraps"}
"""Decorators without which a function returns the same."""
LOGGED: Final = {"debug", "info", "warning", "error", "exception", "warn"}


@dataclass(frozen=True)
class Function:
    """A function of a tree: where it is, and its code without docstrings."""

    path: str
    name: str
    start: int
    end: int
    indent: int
    code: str

    @property
    def room(self) -> str:
        folders = self.path.split("/")[:-1]
        return "/".join(folders[:2])


@dataclass(frozen=True)
class Mutation:
    """A mutation of a text: an operator of Cosmic Ray, its number in the text, and its place."""

    operator: str
    occurrence: int
    place: tuple[int, int]
    """Line and column."""

    def change(self, text: str) -> str:
        """Return the text with the mutation."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        mutant: str = mutate_code(text, get_operator(self.operator)(), self.occurrence)
        return mutant


class Normal(ast.NodeTransformer):
    """Drop docstrings, and the root of our imports, which the redesign gave a name."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module:
            node.module = node.module.removeprefix("rarefy.")
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node


def functions(root: Path, paths: list[str] | None = None) -> list[Function]:
    """Return the functions and methods of a tree, or of some of its files."""
    if paths is None:
        files = [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py"))]
        paths = [file.relative_to(root).as_posix() for file in files]
    found = []
    for path in paths:
        for name, node in _definitions(ast.parse((root / path).read_text()), ""):
            start = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            end, indent = node.end_lineno or node.lineno, node.col_offset
            code = ast.unparse(Normal().visit(node))
            found.append(Function(path, name, start, end, indent, code))
    return found


def _definitions(
    node: ast.AST, prefix: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _definitions(child, f"{prefix}{child.name}.")


def _silent(function: ast.AST) -> Iterator[tuple[int, int, int, int]]:
    """Find annotations, decorators without behaviour, casts and texts for a log.

    Yields:
        First line and column, last line and column.
    """
    for node in ast.walk(function):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(node.returns)
            parts += [item for item in node.decorator_list if _last_name(item) in NO_BEHAVIOUR]
        elif isinstance(node, ast.Call):
            if _last_name(node.func) == "cast":
                parts.append(node.args[0])
            elif isinstance(node.func, ast.Attribute) and node.func.attr in LOGGED:
                parts.append(node)
        for part in parts:
            if isinstance(part, ast.expr):
                end, column = part.end_lineno or part.lineno, part.end_col_offset or 0
                yield part.lineno, part.col_offset - 1, end, column  # with the @ of a decorator


def _last_name(node: ast.expr) -> str:
    """Return ``wraps`` for ``@functools.wraps(work)``."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def same_code(before: Path, after: Path) -> list[tuple[Function, Function]]:
    """Return each function that both trees have once, with the same code."""
    trees: list[dict[str, list[Function]]] = []
    for root in (before, after):
        by_code: dict[str, list[Function]] = defaultdict(list)
        for function in functions(root):
            by_code[function.code].append(function)
        trees.append(by_code)
    old, new = trees
    codes = [code for code in new if len(new[code]) == 1 and len(old.get(code, [])) == 1]
    return [(old[code][0], new[code][0]) for code in codes]


def quietly(*words: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; end the benchmark with its output if it fails."""
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")


def clone(folder: Path, commit: str) -> Path:
    """Return a clone at a commit. Its environment has what runs this script, and the clone.

    An environment made anew would take minutes and gigabytes, and might have other versions.
    """
    python = folder / ".venv" / "bin" / "python"
    if not (folder / ".venv" / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        quietly("git", "clone", "--quiet", ROOT, folder)
        quietly("git", "checkout", "--quiet", commit, cwd=folder)
        quietly(sys.executable, "-m", "venv", "--without-pip", folder / ".venv")
        (packages,) = (folder / ".venv" / "lib").glob("python*/site-packages")
        ours = [path for path in sys.path if Path(path).name == "site-packages"]
        (packages / "ours.pth").write_text("\n".join(ours) + "\n")
        install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
        quietly(sys.executable, *install, "--no-build-isolation", "--editable", folder)
        (folder / ".venv" / "installed").touch()
    quietly("git", "fetch", "--quiet", ROOT, "HEAD", cwd=folder)
    quietly("git", "checkout", "--quiet", "--force", commit, cwd=folder)
    return folder


def draw(home: Path) -> list[dict[str, Any]]:
    """Draw mutants from the functions that both commits have, at most one from a function."""
    before, after = clone(home / "before-0", BEFORE), clone(home / "after-0", COMMIT)
    pairs = same_code(before, after)
    install(home)
    generator = random.Random(SEED)
    generator.shuffle(pairs)
    rooms = Counter[str]()
    mutants: list[dict[str, Any]] = []
    for old, new in pairs:
        if len(mutants) == COUNT or rooms[new.room] == A_ROOM:
            continue
        text = _text(after, new)
        places: dict[tuple[int, int], list[Mutation]] = defaultdict(list)
        for mutation in mutations(text):
            if not _is_silent(text, mutation):
                places[mutation.place].append(mutation)
        if not places:
            continue
        place = generator.choice(sorted(places))
        mutation = generator.choice(places[place])
        changed = mutation.change(text)
        if not (_fits(after, new, changed) and _fits(before, old, changed)):
            continue
        rooms[new.room] += 1
        mutants.append(
            {
                "room": new.room,
                "drawn": COMMIT,
                "path": new.path,
                "function": new.name,
                "operator": mutation.operator.partition("/")[2],
                "change": _difference(text, changed),
                "code": new.code,
                "text": changed,
            }
        )
    return mutants


def install(home: Path) -> None:
    """Install Cosmic Ray beside what runs this script, so that it can be imported here."""
    tool = home / "tool"
    if not (tool / "cosmic_ray").is_dir():
        quietly(sys.executable, "-m", "pip", "install", "--quiet", "--target", tool, TOOL)
    sys.path.append(str(tool))


def mutations(text: str) -> list[Mutation]:
    """Return all mutations of a text that Cosmic Ray's operators without arguments make."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(text)))
    found = []
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments():
            continue
        positions = [place for node in nodes for place in operator().mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            found.append(Mutation(name, occurrence, start))
    return found


def _is_silent(text: str, mutation: Mutation) -> bool:
    if mutation.operator.endswith(tuple(EQUIVALENT)):
        return True
    spans = _silent(ast.parse(text))
    return any(span[:2] <= mutation.place <= span[2:] for span in spans)


def _text(root: Path, function: Function) -> str:
    """Return a function's text without its indentation."""
    lines = (root / function.path).read_text().splitlines(keepends=True)
    return textwrap.dedent("".join(lines[function.start - 1 : function.end]))


def _fits(root: Path, function: Function, text: str) -> bool:
    """Return whether a mutant is a function, and another, when it stands in the place of one."""
    try:
        alone = ast.unparse(Normal().visit(ast.parse(text)))
    except SyntaxError:
        return False
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / function.path
        file.parent.mkdir(parents=True)
        file.write_text(_with(root, function, text))
        (placed,) = [
            one
            for one in functions(Path(name), [function.path])
            if (one.name, one.start) == (function.name, function.start)
        ]
    return placed.code == alone != function.code


def _with(root: Path, function: Function, text: str) -> str:
    """Return a file's text with another text of one of its functions."""
    lines = (root / function.path).read_text().splitlines(keepends=True)
    if not (root / "rarefy").is_dir():
        text = re.sub(r"\brarefy\.(pipeline|stages|exporters|flows)\b", r"\1", text)
    lines[function.start - 1 : function.end] = [textwrap.indent(text, " " * function.indent)]
    return "".join(lines)


def _difference(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


class Suite:
    """The tests of a clone."""

    def __init__(self, root: Path, seconds: int) -> None:
        self.root, self.seconds = root, seconds
        self.broken: set[str] = set()
        """Tests that fail without a mutant, too."""
        self.functions = {function.code: function for function in functions(root)}
        self.importers = self._importers()

    def at(self, root: Path) -> Suite:
        """Return the same tests in another clone of the same commit."""
        suite = copy.copy(self)
        suite.root = root
        return suite

    def _importers(self) -> dict[str, set[str]]:
        """Return for each file the files that import it."""
        importers: dict[str, set[str]] = defaultdict(set)
        for folder in (*FOLDERS, "tests"):
            for file in (self.root / folder).rglob("*.py"):
                path = file.relative_to(self.root).as_posix()
                for node in ast.walk(ast.parse(file.read_text())):
                    for imported in self._imported(node):
                        importers[imported].add(path)
        return importers

    def _imported(self, node: ast.AST) -> Iterator[str]:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            words = name.removeprefix("rarefy.").split(".")
            for last in (len(words), len(words) - 1):
                stem = "/".join(words[:last])
                for path in (f"{stem}.py", f"{stem}/__init__.py"):
                    if stem and (self.root / path).is_file():
                        yield path

    def near(self, function: Function) -> dict[str, int]:
        """Return how far the files of tests are away from a function, the nearest first.

        The file of the function's module is at 0; those that name a function without an
        underscore are one step nearer than the imports say.
        """
        steps = {function.path: 0}
        edge = [function.path]
        for step in range(1, 20):
            reached = sorted({name for path in edge for name in self.importers[path]} - set(steps))
            steps |= dict.fromkeys(reached, step)
            edge = reached
        mirror = Path("tests", function.path)
        mirror = mirror.with_name(f"test_{mirror.name}")
        name = function.name.rpartition(".")[2]
        word = re.compile(rf"\b{name}\b")
        distances: dict[str, int] = {}
        for file in sorted((self.root / "tests").rglob("test_*.py")):
            path = file.relative_to(self.root).as_posix()
            if "consumers" in file.parts or file.name in ABOUT_THE_SOURCE:
                continue
            distances[path] = steps.get(path, 20)
            if file.relative_to(self.root) == mirror:
                distances[path] = 0
            elif distances[path] > 1 and not name.startswith("_") and word.search(file.read_text()):
                distances[path] -= 1
        folder = Path("tests", function.path).parent

        def nearness(path: str) -> tuple[int, int]:
            shared = Path(os.path.commonpath([folder, path]))
            return distances[path], -len(shared.parts)

        return {path: distances[path] for path in sorted(distances, key=nearness)}

    def kill(self, mutant: dict[str, Any], wide: bool) -> dict[str, Any]:
        """Run the tests until one fails; return which, among how many files, and in what time."""
        function = self.functions[mutant["code"]]
        near = self.near(function)
        files = [path for path, distance in near.items() if distance <= NEAR][:NEAR_FILES]
        nearest = [path for path in files if near[path] <= 1][: NEAR_FILES // 2]
        quick = "not slow and not long"
        turns = [  # few files first, since it takes time to collect many
            ("nearest", files[:NEAREST_FILES], quick, self.seconds),
            ("near", files[NEAREST_FILES:], quick, self.seconds),
            ("near, slow", nearest, "slow and not long", self.seconds),
        ]
        if wide:
            turns = [("wide", list(near), quick, 4 * self.seconds)]
        began = time.monotonic()
        result: dict[str, Any] = {"killed": False, "by": None, "turn": None}
        unfinished = []
        for turn, paths, marks, seconds in turns:
            by, finished = self._try(function, mutant["text"], paths, marks, seconds)
            if by:
                result = {"killed": True, "by": by, "turn": turn}
                break
            if not finished:
                unfinished.append(turn)
        result |= {"files": len(files), "wide": wide, "out of time": unfinished}
        return result | {"seconds": round(time.monotonic() - began)}

    def _try(
        self, function: Function, text: str, paths: list[str], marks: str, seconds: int
    ) -> tuple[str | None, bool]:
        """Run tests on a mutant; return the test that kills it, and whether there was time."""
        if not paths:
            return None, True
        while True:
            with self._with(function, text):
                code, failed = self._pytest(paths, marks, seconds)
            if code in (None, 0, 5):  # out of time, all pass, and no test has these marks
                return None, code is not None
            if not failed:
                return f"exit code {code}, as if a test hangs", True
            if self._pytest([failed], "", self.seconds)[0] == 0:
                return failed, True
            self.broken.add(failed)

    @contextlib.contextmanager
    def _with(self, function: Function, text: str) -> Iterator[None]:
        """Put a mutant in the place of a function for a while."""
        file = self.root / function.path
        original = file.read_text()
        self._write(file, _with(self.root, function, text))
        try:
            yield
        finally:
            self._write(file, original)

    def _write(self, file: Path, text: str) -> None:
        """Write a source file, and forget its byte code, whose time stamp counts whole seconds."""
        file.write_text(text)
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()

    def _pytest(self, paths: list[str], marks: str, seconds: int) -> tuple[int | None, str]:
        """Run tests until one fails; return the exit code and the test that failed.

        The code is None if the time was over before.
        """
        words = [self.root / ".venv" / "bin" / "python", "-m", "pytest", "-x", "-q", "-m", marks]
        words += ["-p", "no:cacheprovider", f"--basetemp={self.root}-tests"]
        options = (f"faulthandler_timeout={self.seconds // 2}", "faulthandler_exit_on_timeout=true")
        words += [word for option in options for word in ("-o", option)]
        words += [f"--deselect={test}" for test in sorted(self.broken)]
        variables = {
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                ["nice", "-n", "19", *map(str, words), *paths],
                cwd=self.root,
                env={**os.environ, **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
            output.seek(0)
            text = output.read()
        match = re.search(r"^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$", text, re.MULTILINE)
        return code, match[1] if match else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Trial:
    """What the tests of both commits make of the mutants, by workers with clones of their own."""

    def __init__(self, home: Path, workers: int, seconds: int) -> None:
        self.file = home / "trials.jsonl"
        self.writing = threading.Lock()
        self.free: SimpleQueue[dict[str, Suite]] = SimpleQueue()
        commits = {"before": BEFORE, "after": COMMIT}
        first = {}
        for name, commit in commits.items():
            first[name] = Suite(clone(home / f"{name}-0", commit), seconds)
        self.free.put(first)
        self.stays = set(first["after"].functions)
        """The code of the functions that there are."""
        for number in range(1, workers):
            suites = {}
            for name, commit in commits.items():
                suites[name] = first[name].at(clone(home / f"{name}-{number}", commit))
            self.free.put(suites)

    def earlier(self) -> list[dict[str, Any]]:
        """Return the results that were kept."""
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def run(self, number: int, mutant: dict[str, Any], tree: str, wide: bool) -> None:
        """Run the tests of a commit on a mutant, unless it is known what they do.

        Args:
            number: of the mutant.
            mutant: as it was drawn.
            tree: "after" or "before". No test of before runs on what those of after kill.
            wide: whether to run all quick tests instead of those that are near.
        """
        for name in {"after", tree}:
            if any(result["killed"] for result in self._known(number, name)):
                return
        if any(result["wide"] == wide for result in self._known(number, tree)):
            return
        suites = self.free.get()
        try:
            result = suites[tree].kill(mutant, wide)
        finally:
            self.free.put(suites)
        commit = COMMIT if tree == "after" else BEFORE
        self._keep({"mutant": number, "tree": tree, "commit": commit, "result": result})

    def _known(self, number: int, tree: str) -> list[dict[str, Any]]:
        """Return the results that still hold: tests that were added later may kill a survivor."""
        known = []
        for row in self.earlier():
            holds = row["result"]["killed"] or tree == "before" or row["commit"] == COMMIT
            if holds and (row["mutant"], row["tree"]) == (number, tree):
                known.append(row["result"])
        return known

    def _keep(self, result: dict[str, Any]) -> None:
        with self.writing, self.file.open("a") as file:
            file.write(json.dumps(result) + "\n")
        outcome = result["result"]["by"] or "survives"
        print(f"mutant {result['mutant']} {result['tree']}: {outcome}", file=sys.stderr, flush=True)


def rows(mutants: list[dict[str, Any]], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what became of each mutant: "killed", "lost" (killed only before) or "survived"."""
    table = []
    for number, mutant in enumerate(mutants):
        row = {"mutant": number} | {k: v for k, v in mutant.items() if k not in ("code", "text")}
        for tree in ("after", "before"):
            kept = [r for r in results if (r["mutant"], r["tree"]) == (number, tree)]
            kept.sort(key=lambda result: result["result"]["killed"])
            row[tree] = {"commit": kept[-1]["commit"], **kept[-1]["result"]} if kept else None
        row["outcome"] = _outcome(row["after"], row["before"])
        table.append(row)
    return table


def _outcome(after: dict[str, Any] | None, before: dict[str, Any] | None) -> str:
    if after is None:
        return "not tried"
    if after["killed"]:
        return "killed"
    if before is None:
        return "not tried"
    return "lost" if before["killed"] else "survived"


def show(table: list[dict[str, Any]]) -> None:
    columns = Table("", "function", "change", "outcome", "by", title="mutants")
    for row in table:
        result = row["after"] if row["outcome"] == "killed" else row["before"]
        change = "\n".join(row["change"])
        name = f"{row['path']}\n{row['function']}"
        by = (result or {}).get("by") or ""
        columns.add_row(str(row["mutant"]), name, change, row["outcome"], by)
    Console().print(columns)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="where clones and results are")
    parser.add_argument("--workers", type=int, default=1, help="mutants at once")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="more on a busy machine")
    parser.add_argument("--first", type=int, default=COUNT, help="try only the first of them")
    parser.add_argument("--wide", action="store_true", help="all quick tests, for survivors")
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    drawn = home / "mutants.json"
    if not drawn.exists():
        drawn.write_text(json.dumps(draw(home), indent=1))
    mutants = json.loads(drawn.read_text())
    trial = Trial(home, options.workers, options.seconds)
    numbered = enumerate(mutants[: options.first])
    tried = [(number, mutant) for number, mutant in numbered if mutant["code"] in trial.stays]
    with ThreadPoolExecutor(options.workers) as pool:
        for wide, tree in product([False, True][: 1 + options.wide], ("after", "before")):
            waiting = [pool.submit(trial.run, *item, tree, wide) for item in tried]
            for trying in waiting:
                trying.result()
    table = rows(mutants, trial.earlier())
    for row, mutant in zip(table, mutants, strict=True):
        if mutant["code"] not in trial.stays:
            row["outcome"] = "changed since it was drawn"
    show(table)
    count = Counter(row["outcome"] for row in table)
    measured = ", ".join(f"{number} {outcome}" for outcome, number in sorted(count.items()))
    claim = f"mutants that only the suite before kills, of {len(mutants)} by {TOOL}"
    holds = not count["lost"] and not count["not tried"]
    return finish("mutants", table, [Claim(claim, "0 lost", measured, holds)], SEED)


if __name__ == "__main__":
    sys.exit(main())
