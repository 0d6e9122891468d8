"""The race: our int8 bundles against Olive, Optimum and OpenVINO, from the same checkpoint.

    python -m benchmarks.race --home DIR [--again] [MODEL…]

Per model about 25 minutes on a quiet machine (12×768: an hour), and it resumes where it stopped.
Each tool lives in an environment of its own in DIR, from its pinned requirements in
``benchmarks/peers``. Each writes its int8 forms of one checkpoint, static ones from the same 256
training rows. All forms are then timed in this environment: hot, in short blocks that take turns
in random order, as ``rarefy validate`` times (one thread, batch 1). Every form runs in two heats;
those that no length finds fastest of their tool stay out of the final, which has more processes.
A form that cannot answer rows of some length does not race, and the record says so.
Rows a second: each tool's best of two workers with one thread or one with two, and of five batches,
rows grouped by length. ``--again`` keeps what the others made and makes and times ours again.

Models: 6x384 is the demo's teacher (`make demo`). 3x384 is its first three layers, not trained
again: its accuracy means nothing, but its KL to its own float answers does. bert is a random BERT
12×768, for speed and size. mpnet is all-mpnet-base-v2 (12×768) from its packages, fine-tuned on a
fifth of the rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import contestants, planned
from benchmarks.record import Claim, finish, is_of_now, note_now
from rarefy.pipeline.measure import fresh_process
from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.terms.interval import Interval

REAL = "rows"
LENGTHS = (8, 16, 32, 64, 128, 256)
LEAST = {REAL: 1.4, "8": 1.2, "16": 1.2, "32": 1.2, "64": 1.0, "128": 1.0, "256": 1.0}
"""Where -> our speed over the fastest of theirs. At 12×768 the short lengths need only be ahead."""
HEATS, FINALS, ROUNDS = 2, 9, 5
TIMED, COUNTED = 200, 256
SECONDS = 6.0
BATCHES = (1, 4, 8, 16, 32)
WORKER = "benchmarks.race_worker"
TOOLS = ("ours", "olive", "optimum", "openvino")
FLOAT = ("openvino-float", "openvino-fp32")


def tool(form: str) -> str:
    return form.split("-")[0]


def fastest(models: dict[str, list[list[float]]], forms: list[str], named: str) -> str:
    """Return the form of a tool with the least median."""
    own = [form for form in forms if tool(form) == named]
    return min(own, key=lambda form: intervals.percentile_of(models[form], 50))


def kept(path: Path, make: Any) -> Any:
    """Return what a JSON file has; make and write it if it is missing."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        value = make()
        path.with_suffix(".part").write_text(json.dumps(value))
        path.with_suffix(".part").rename(path)
    return json.loads(path.read_text())


def call(request: dict[str, Any], what: str, threads: int = 1) -> dict[str, Any]:
    print(what, file=sys.stderr, flush=True)
    return fresh_process.call(WORKER, request, what=what, timeout=3600, threads=threads)


class Race:
    """One model's race, in its own folder."""

    def __init__(self, home: Path, name: str) -> None:
        self.name, self.folder = name, home / name
        contestants.prepare(home, name)
        made = contestants.made(home, name)
        found = kept(
            self.folder / "fails.json", lambda: {f: self._fails(p) for f, p in made.items()}
        )
        self.broken = {form: found[form] for form in made if found[form]}
        """Forms that cannot answer a row of some length, with what they say: they do not race."""
        self.forms = {form: path for form, path in made.items() if form not in self.broken}
        self.texts = json.loads((self.folder / "eval.json").read_text())

    def _fails(self, form: Path) -> str | None:
        request = {"job": "fails", "form": str(form), "lengths": LENGTHS}
        answer: str | None = call(request, f"{self.name}: {form.name} at each length")["fails"]
        return answer

    def session(self, kind: str, number: int, names: list[str]) -> dict[str, Any]:
        """Return the timings of one process with these forms."""
        cores = fingerprint.cores()
        request = {
            "job": "latency",
            "bundles": {name: str(self.forms[name]) for name in names},
            "twice": names[0],
            "texts": self.texts[:TIMED],
            "pairs": None,
            "provider": "cpu",
            "alike": False,
            "threads": 1,
            "seconds": SECONDS,
            "lengths": LENGTHS,
            "cold": False,
            "seed": [len(kind), number],
            "cores": [cores[number % len(cores)]],
        }
        path = self.folder / "times" / f"{kind}-{number}.json"
        return kept(path, lambda: call(request, f"{self.name}: {kind} {number + 1}"))

    def latencies(self) -> dict[str, dict[str, list[list[float]]]]:
        """Return where -> form -> process × calls, of the final."""
        heats = [self.session("heat", number, list(self.forms)) for number in range(HEATS)]
        int8 = [form for form in self.forms if form not in FLOAT]
        fast = {fastest(models, int8, each) for models in where(heats).values() for each in TOOLS}
        finalists = [f for f in self.forms if f in fast or f in FLOAT or tool(f) == "ours"]
        finals = [self.session("final", number, finalists) for number in range(FINALS)]
        for number, final in enumerate(finals):
            if final["busy"]:
                print(f"final {number + 1}: {'; '.join(final['busy'])}", file=sys.stderr)
        return where(finals)

    def logits(self, form: str) -> np.ndarray[Any, Any]:
        """Return a form's answers to the eval rows, or those of PyTorch in float."""
        if form == "float":
            return np.array(kept(self.folder / "answers" / "float.json", self._float))
        request = {"job": "answers", "form": str(self.forms[form]), "texts": self.texts}
        path = self.folder / "answers" / f"{form}.json"
        found = kept(path, lambda: call(request, f"{self.name}: answers of {form}"))
        return np.array(found["logits"])

    def _float(self) -> list[list[float]]:
        import torch
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(self.folder / "checkpoint")
        model.eval()
        with torch.no_grad():
            ids = (torch.tensor([json.loads(text)]) for text in self.texts)
            return [model(row, attention_mask=row * 0 + 1).logits[0].tolist() for row in ids]

    def rate(self, form: str, workers: int, batch: int, turn: int) -> float:
        cores = fingerprint.cores()[:2]
        request = {
            "job": "rate",
            "form": str(self.forms[form]),
            "texts": self.texts[:COUNTED],
            "cores": [[core] for core in cores] if workers == 2 else [cores],
            "batch": batch,
            "seconds": 1.0,
            "seed": turn,
        }
        what = f"{form}-{workers}x{3 - workers}-{batch}-{turn}"
        path = self.folder / "rates" / f"{what}.json"
        found = kept(path, lambda: call(request, f"{self.name}: rows a second {what}", 3 - workers))
        return float(found["rate"])

    def rates(self, forms: list[str]) -> dict[str, tuple[tuple[str, int, int], list[list[float]]]]:
        """Return tool -> its best form, workers and batch, and rows a second, one a round."""
        tried = {each: self.rate(*each, 0) for each in product(forms, (2, 1), BATCHES)}
        best = {}
        for each in tried:
            name = tool(each[0])
            best[name] = max(best.get(name, each), each, key=tried.__getitem__)
        order = np.random.default_rng(0)
        found: dict[str, list[list[float]]] = {name: [] for name in best}
        for turn in range(1, ROUNDS + 1):
            for name in order.permutation(sorted(best)).tolist():
                found[name].append([self.rate(*best[name], turn)])
        return {name: (best[name], found[name]) for name in best}

    def run(self) -> tuple[list[dict[str, Any]], list[Claim]]:
        """Return a row for each form, and the claims."""
        times = self.latencies()
        ranked = list(times[REAL])
        labels = np.array(json.loads((self.folder / "labels.json").read_text()))
        exact = planned.logarithms(self.logits("float"))
        right = exact.argmax(1) == labels
        rows: dict[str, dict[str, Any]] = {}
        for form, folder in self.forms.items():
            logs = planned.logarithms(self.logits(form))
            good = logs.argmax(1) == labels
            gains, losses = int((good & ~right).sum()), int((right & ~good).sum())
            rows[form] = {
                "model": self.name,
                "form": form,
                "size": sum(path.stat().st_size for path in folder.glob("model.*")),
                "seconds": json.loads((folder / "seconds.json").read_text()),
                "kl": float((np.exp(exact) * (exact - logs)).sum(1).mean()),
                "accuracy": float(good.mean()),
                "accuracy_change": intervals.paired_difference(gains, losses, len(good))._asdict(),
            }
            if form in ranked:
                rows[form]["ms"] = {
                    at: intervals.percentile_interval(models[form], 50)._asdict()
                    for at, models in times.items()
                }
        # A batch is like a long row; the forms for VNNI have the same kernels as the default ones.
        plain = [form for form in ranked if form not in FLOAT and not form.endswith("vnni")]
        best = {fastest(times[at], plain, each) for at in (REAL, "256") for each in TOOLS}
        counted = self.rates(sorted(best))
        for form, rates in counted.values():
            rows[form[0]]["rate"] = {
                "workers × threads, batch": f"{form[1]}×{3 - form[1]}, {form[2]}",
                "rows a second": intervals.percentile_interval(rates, 50)._asdict(),
            }
        broken = [{"model": self.name, "form": f, "fails": said} for f, said in self.broken.items()]
        return [*rows.values(), *broken], list(self.claims(rows, times, counted))

    def claims(self, rows: Any, times: Any, counted: Any) -> Iterator[Claim]:
        """Compare one of our forms that are right on every CPU with the fastest of theirs.

        It is the fastest of those that are at least as near to float as the nearest of theirs, or,
        if none is, the fastest.
        """
        real = times[REAL]
        int8 = [form for form in rows if tool(form) != "ours" and form not in FLOAT]
        nearest = min(rows[form]["kl"] for form in int8)
        mine = [form for form in real if tool(form) == "ours" and not form.endswith("vnni")]
        near = [form for form in mine if rows[form]["kl"] <= nearest]
        ours = min(near or mine, key=lambda form: intervals.percentile_of(real[form], 50))
        theirs = [form for form in real if tool(form) != "ours" and form not in FLOAT]
        for at, models in times.items():
            best = min(theirs, key=lambda form: intervals.percentile_of(models[form], 50))
            ratio = intervals.percentile_ratio(models[best], models[ours], 50)
            least = LEAST[at] if at == REAL or self.name == "6x384" else min(LEAST[at], 1.0)
            yield Claim(
                f"{self.name}, {at if at == REAL else f'{at} tokens'}: {ours} against the fastest",
                f"at least {least}×",
                f"{shown(ratio)}× the speed of {best}",
                ratio.value >= least,
            )
        rival = max(
            (name for name in counted if name != "ours"),
            key=lambda name: intervals.percentile_of(counted[name][1], 50),
        )
        ratio = intervals.percentile_ratio(counted["ours"][1], counted[rival][1], 50)
        yield Claim(
            f"{self.name}, rows a second on two cores: {counted['ours'][0][0]} against the fastest",
            "ahead",
            f"{shown(ratio)}× those of {counted[rival][0][0]}",
            ratio.value > 1,
        )
        for what, key, unit in (("mean KL to float", "kl", 1.0), ("size", "size", 1e6)):
            least = min(int8, key=lambda form: rows[form][key])
            yield Claim(
                f"{self.name}, {what}: {ours} against the least of theirs",
                "no larger",
                f"{rows[ours][key] / unit:.3g}; {least} {rows[least][key] / unit:.3g}",
                rows[ours][key] <= rows[least][key],
            )


def where(sessions: list[dict[str, Any]]) -> dict[str, dict[str, list[list[float]]]]:
    """Return where -> form -> process × calls: real rows, and each length."""
    forms = [name for name in sessions[0]["wall"] if not name.startswith("(")]
    found = {REAL: {form: [one["wall"][form] for one in sessions] for form in forms}}
    for at in sessions[0]["fixed"]:
        found[at] = {form: [one["fixed"][at][form] for one in sessions] for form in forms}
    return found


def shown(ratio: Interval) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of a model: ms at one thread, batch 1, hot."""
    drawn = Table(
        *("form", REAL, *map(str, LENGTHS), "rows/s", "as", "accuracy", "KL", "MB", "s"),
        title=rows[0]["model"],
    )
    for row in rows:
        if "fails" in row:
            drawn.add_row(row["form"], "fails at", row["fails"].partition(":")[0])
            continue
        ms = row.get("ms", {})
        rate = row.get("rate", {"workers × threads, batch": "", "rows a second": None})
        speed = rate["rows a second"]
        drawn.add_row(
            row["form"],
            *(f"{ms[at]['value']:.3g}" if at in ms else "" for at in (REAL, *map(str, LENGTHS))),
            f"{speed['value']:.0f}" if speed else "",
            rate["workers × threads, batch"],
            f"{row['accuracy']:.2%}",
            f"{row['kl']:.2g}",
            f"{row['size'] / 1e6:.1f}",
            f"{row['seconds']:.0f}",
        )
    return drawn


def main() -> int:
    """Race each model; print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--again", action="store_true", help="make and time ours again")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(contestants.MODELS))
    given = parser.parse_args()
    names = given.models or list(contestants.MODELS)
    for name in names:
        if name not in contestants.MODELS:
            parser.error(f"no model {name!r}, only {', '.join(contestants.MODELS)}")
    home, rows, claims = given.home.resolve(), list[dict[str, Any]](), list[Claim]()
    for name in names:  # what other tools made stays
        note = home / f"{name}.measured.json"
        if is_of_now(note) and not given.again:
            continue
        for old in ("times", "rates", *(f"forms/{each}" for each in contestants.OURS)):
            shutil.rmtree(home / name / old, ignore_errors=True)
        (home / name / "fails.json").unlink(missing_ok=True)
        for each in contestants.OURS:
            (home / name / "answers" / f"{each}.json").unlink(missing_ok=True)
        note_now(note)
    for name in names:
        found = Race(home, name).run()
        Console(width=160).print(table(found[0]))
        rows += found[0]
        claims += found[1]
    return finish("race", rows, claims, seed=0)


if __name__ == "__main__":
    raise SystemExit(main())
