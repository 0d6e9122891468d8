"""How much a statement holds: nodes of the syntax tree for each statement of function bodies.

A line can be wrapped by a formatter, a statement cannot, so this tells packed code from plain code.
``python -m benchmarks.density`` prints it by folder, and ``--files`` by file, the densest first.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "stages", "exporters", "flows")


@dataclass(frozen=True)
class Count:
    """Nodes (expressions and statements) and statements in function bodies, and lines of files."""

    nodes: int = 0
    statements: int = 0
    lines: int = 0
    files: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.nodes + other.nodes,
            self.statements + other.statements,
            self.lines + other.lines,
            self.files + other.files,
        )

    @property
    def density(self) -> float:
        """Nodes for each statement; 0 if there are no statements."""
        if not self.statements:
            return 0.0
        return self.nodes / self.statements


def count(source: str) -> Count:
    """Count a module's source. Docstrings are left out; a nested function is counted once."""
    bodies = ast.walk(ast.parse(source))
    functions = [n for n in bodies if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    seen = set[ast.AST]()
    for function in functions:
        docstring = _docstring(function)
        for statement in function.body:
            if statement is not docstring:
                seen.update(_nodes(statement))
    docstrings = {_docstring(function) for function in functions}
    constants = {d.value for d in docstrings if isinstance(d, ast.Expr)}
    nodes = seen - docstrings - constants
    statements = sum(isinstance(node, ast.stmt) for node in nodes)
    return Count(len(nodes), statements, len(source.splitlines()), 1)


def _nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    return (n for n in ast.walk(statement) if isinstance(n, ast.stmt | ast.expr))


def _docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt | None:
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is None:
        return None
    return first


def files(root: Path = ROOT) -> dict[str, Count]:
    """Count every source file of a checkout, by its path; the package's front door included."""
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    paths += sorted((root / "rarefy").glob("*.py"))
    paths += sorted(root.glob("rarefy.py"))  # where the front door was before
    return {path.relative_to(root).as_posix(): count(path.read_text()) for path in paths}


def total(counts: Iterable[Count]) -> Count:
    return sum(counts, start=Count())


def rooms(counts: dict[str, Count]) -> dict[str, Count]:
    """Add up the files of each folder; of ``pipeline``, of each folder in it."""
    added: dict[str, Count] = {}
    for path, number in counts.items():
        parts = path.split("/")
        depth = 2 if parts[0] == "pipeline" and len(parts) > 2 else 1
        room = "/".join(parts[:depth])
        added[room] = added.get(room, Count()) + number
    return added


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.density", description=__doc__)
    parser.add_argument("--files", action="store_true", help="each file, the densest first")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to count")
    options = parser.parse_args()
    counts = files(options.root)
    shown = counts if options.files else rooms(counts)
    for name, number in sorted(shown.items(), key=lambda item: -item[1].density):
        print(f"{number.density:6.2f} {number.nodes:7} {number.statements:6}  {name}")
    whole = total(counts.values())
    print(f"{whole.density:6.2f} {whole.nodes:7} {whole.statements:6}  all {whole.files} files")


if __name__ == "__main__":
    main()
