"""Which code shapes the output of each stage, and whether it has changed since it was recorded.

``python -m tests.fingerprints`` records it; see CONTRIBUTING.md. Code is compared without what
cannot shape an output: comments, formatting, docstrings, annotations, the text of errors and of
parameters' descriptions, and estimates for ``rarefy plan``.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from rarefy.pipeline.terms.digests import file_sha256, value_sha256

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_suffix(".json")
FOLDERS = ("rarefy.pipeline.", "rarefy.exporters.", "rarefy.stages.")
COMMAND = "python -m tests.fingerprints"

NAME = re.compile(r"[\w-][\w.-]*\.(?!py$)\w+")
"""The name of a file that is not Python."""

OUTSIDE = {
    "rarefy.pipeline.terms.errors": "the text of errors",
    "rarefy.pipeline.terms.wording": "the text of errors and reports",
    "rarefy.pipeline.terms.progress": "what is shown while a stage runs",
    "rarefy.stages.common.progress": "what is shown while a stage runs",
    "rarefy.pipeline.store": "where artifacts are kept, not what is in them",
    "rarefy.pipeline.recipe": "how a recipe is written; what it says is in the fingerprint itself",
    "rarefy.pipeline.sources.plugin_code": "the fingerprint of stages that are not ours",
    "rarefy.pipeline.stage.discovery": "how stages are found",
    "rarefy.pipeline.stage.contract": "declarations; the values are in the stages",
    "rarefy.pipeline.verdict": "judges what was measured, anew each time; in `validate` it "
    "decides only when sampling ends, and what was sampled until then stays right",
    "rarefy.pipeline.run": "what is needed of it is an entry of its own",
}
"""Modules, with all below them, that cannot shape an output, and why."""

DATA = ("rarefy.pipeline.tasks.load", "rarefy.pipeline.tasks.classification.text")
"""What makes rows of files, and tokens of rows, for every stage."""
PLANS = ("rarefy.pipeline.run.quantization",)
"""What copies a quantization plan to the output of a stage."""


@dataclass(frozen=True)
class Entry:
    """Work that is kept under a fingerprint: its version, and the modules that it starts from."""

    version: int
    modules: tuple[str, ...]


@dataclass
class Record:
    """What ``fingerprints.json`` holds."""

    versions: dict[str, int] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Record:
        return cls(**json.loads(RECORD.read_text())) if RECORD.exists() else cls()

    def write(self) -> None:
        RECORD.write_text(json.dumps(vars(self), indent=1, sort_keys=True) + "\n")


def entries() -> dict[str, Entry]:
    """Return all work that is kept: built-in stages and tasks, the import, scores, own answers."""
    from rarefy.pipeline.run import import_model, scoring
    from rarefy.pipeline.run.plan import own_answers

    found = {
        "import": Entry(import_model.ImportModel.version, ("rarefy.pipeline.run.import_model",)),
        "own answers": Entry(own_answers.VERSION, ("rarefy.pipeline.run.plan.own_answers", *DATA)),
        "score": Entry(scoring.VERSION, ("rarefy.pipeline.run.scoring", *DATA)),
    }
    for point in entry_points(group="rarefy.tasks"):
        if point.module.startswith("rarefy.pipeline."):
            runner = f"rarefy.exporters.bundle.task_{point.name.replace('-', '_')}"
            modules = (
                point.module,
                "rarefy.pipeline.run.decisions",
                *([runner] if _file(runner) else []),
            )
            found[f"task {point.name}"] = Entry(point.load().version, modules)
    for point in entry_points(group="rarefy.stages"):
        if point.module.startswith("rarefy.stages."):
            found[point.name] = Entry(point.load().version, (point.module, *DATA, *PLANS))
    return found


def closure(modules: Iterable[str]) -> set[str]:
    """Return these modules and those of ours that they import, or name to start in a process."""
    ahead, found = list(modules), set[str]()
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += [each for each in _uses(name) if not _is_outside(each)]
    return found


def _is_outside(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in OUTSIDE)


def _file(name: str) -> Path | None:
    path = ROOT.joinpath(*name.removeprefix("rarefy.").split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@functools.cache
def _uses(name: str) -> frozenset[str]:
    path = _file(name)
    assert path is not None, name
    named = set[str]()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.add(node.value)  # `python -m rarefy.pipeline.measure.latency.worker`
            if node.value.endswith(".py"):  # copied from beside this module
                named.add(f"{name.rpartition('.')[0]}.{node.value.removesuffix('.py')}")
    ours = {each for each in named if each.startswith(FOLDERS) and each.isprintable()}
    return frozenset(each for each in ours if " " not in each and _file(each))


def digest(source: bytes | str) -> str:
    """Return the sha256 of a module's code, without what cannot shape an output."""
    plain = json.dumps(_plain(ast.parse(source)), default=repr)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _plain(node: Any) -> Any:
    """Return a syntax tree as lists, the same in each version of Python."""
    if isinstance(node, list):
        return [_plain(each) for each in node if not _says_nothing(each)]
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, ast.Raise):
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ["Raise", _plain(error)]
    left_out = {"returns", "annotation", "type_comment", "kind", "type_params", "ctx"}
    if isinstance(node, ast.AnnAssign):
        left_out.discard("annotation")  # a parameter's type says how its value is read
    parts = [(k, v) for k, v in ast.iter_fields(node) if k not in left_out and v not in (None, [])]
    return [type(node).__name__, *([key, _plain(value)] for key, value in parts)]


def _says_nothing(node: Any) -> bool:
    """Return whether a statement or an argument only explains or imports."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.keyword):
        return node.arg == "description"
    return isinstance(node, ast.Import | ast.ImportFrom) and not any(_foreign(node))


def _foreign(node: ast.Import | ast.ImportFrom) -> Iterator[bool]:
    names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for name in names:
        top = name.partition(".")[0]
        yield top != "rarefy" and top not in sys.stdlib_module_names


@dataclass(frozen=True)
class Change:
    """How the code differs from the record.

    ``modules`` maps each changed module to its digest now; ``raised`` are the entries with another
    version than recorded, and ``same`` those whose code changed under the same version.
    """

    modules: dict[str, str | None]
    raised: list[str]
    same: list[str]

    @property
    def message(self) -> str:
        """One paragraph that says what to do; empty if nothing has changed."""
        if not self.modules and not self.raised:
            return ""
        what = f"{', '.join(self.modules) or 'no module'} changed"
        if not self.same:
            return f"{what}; run `{COMMAND}` to record it, and commit {RECORD.name}"
        return (
            f"{what}, and these may now give another output under their old version: "
            f"{', '.join(self.same)}.\n"
            "Would a result in somebody's store differ from a new one?\n"
            f"  yes: raise `version` in each stage whose output changes, and run `{COMMAND}`\n"
            f'  no:  run `{COMMAND} --neutral "why it does not"`\n'
            f"Then commit {RECORD.name}. (In a merge conflict, take either side of it and run the "
            "command again.)"
        )


def compare(record: Record, now: dict[str, Entry]) -> Change:
    """Return how the code of some entries differs from the record."""
    parts = {name: closure(entry.modules) for name, entry in now.items()}
    digests = {module: _digest(module) for module in set().union(*parts.values())}
    changed: dict[str, str | None] = {
        module: digests.get(module)
        for module in sorted({*digests, *record.modules})
        if digests.get(module) != record.modules.get(module)
    }
    versions = {name: entry.version for name, entry in now.items()}
    names = sorted({*versions, *record.versions})
    raised = [name for name in names if record.versions.get(name) != versions.get(name)]
    same = [n for n, modules in sorted(parts.items()) if n not in raised and modules & set(changed)]
    return Change(changed, raised, same)


def _digest(module: str) -> str:
    """Return the digest of a module, with the files beside it that it names: templates."""
    path = _file(module)
    assert path is not None, module
    source = path.read_bytes()
    texts = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
    names = sorted(t for t in texts if isinstance(t, str) and NAME.fullmatch(t))
    files = [path.with_name(name) for name in names if path.with_name(name).is_file()]
    parts = [digest(source), *(file_sha256(file) for file in files)]
    return value_sha256(parts)[:16] if files else parts[0]


def update(record: Record, now: dict[str, Entry], *, neutral: bool = False) -> None:
    """Record the code as it is. Raises ValueError if that needs another version, or a reason."""
    change = compare(record, now)
    if change.same and not neutral:
        raise ValueError(change.message)
    for module, value in change.modules.items():
        if value is None:
            del record.modules[module]
        else:
            record.modules[module] = value
    record.versions = {name: entry.version for name, entry in now.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument(
        "--neutral", metavar="REASON", help="why no output changes, for the commit's message"
    )
    reason = parser.parse_args().neutral
    record = Record.read()
    try:
        update(record, entries(), neutral=bool(reason))
    except ValueError as error:
        sys.exit(str(error))
    record.write()
    if reason:
        print(f"Say it in the commit's message:\nNeutral: {reason}")


if __name__ == "__main__":
    main()
