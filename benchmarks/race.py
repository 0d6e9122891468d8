"""The race: our int8 bundles against Olive, Optimum and OpenVINO, from the same checkpoint.

    python -m benchmarks.race --home DIR [--again] [MODEL…]

Per model about 25 minutes on a quiet machine (12×768: an hour), and it resumes where it stopped.
The record keeps what it says of models that are not named, and of other CPUs.
Each tool lives in an environment of its own in DIR, from its pinned requirements in
``benchmarks/peers``. Each writes its int8 forms of one checkpoint, static ones from the same 256
training rows. All forms are then timed in this environment: with warm caches, in short blocks that
take turns in random order, as ``rarefy validate`` times (one thread, batch 1). Every form runs in
two heats; those that no length finds fastest of their tool stay out of the final, which has more
processes.
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
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import contestants, planned
from benchmarks.record import (
    HERE,
    Claim,
    cpu,
    finish,
    here,
    is_at_least,
    is_of_now,
    load_or_make,
    note_now,
)
from rarefy.pipeline.measure import fresh_process, machine
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.terms.interval import Interval

REAL = "rows"
LENGTHS = (8, 16, 32, 64, 128, 256)
LEAST = {REAL: 1.4, "8": 1.2, "16": 1.2, "32": 1.2, "64": 1.0, "128": 1.0, "256": 1.0}
"""Length -> our speed over the fastest of theirs. At 12×768 short rows need only be ahead."""
HEATS, FINALS, ROUNDS = 2, 9, 5
TIMED, COUNTED = 200, 256
SECONDS = 6.0
BATCHES = (1, 4, 8, 16, 32)
RESULTS = HERE / "results" / "race.json"
WORKER = "benchmarks.race_worker"
TOOLS = ("ours", "olive", "optimum", "openvino")
FLOAT = ("openvino-float", "openvino-fp32")

Times = dict[str, list[list[float]]]
"""Form -> process × calls, in ms."""


class Setup(NamedTuple):
    """How a tool answers many rows: a form, its workers on two cores, and rows a batch."""

    form: str
    workers: int
    batch: int


def tool(form: str) -> str:
    return form.split("-")[0]


def fastest(times: Times, forms: Iterable[str]) -> str:
    """Return the form with the least median."""
    return min(forms, key=lambda form: intervals.percentile_of(times[form], 50))


def fastest_of_tools(times: Times, forms: list[str]) -> set[str]:
    """Return each tool's form with the least median."""
    best = set()
    for name in TOOLS:
        best.add(fastest(times, [form for form in forms if tool(form) == name]))
    return best


def call(request: dict[str, Any], what: str, threads: int = 1) -> dict[str, Any]:
    print(what, file=sys.stderr, flush=True)
    return fresh_process.call(WORKER, request, what=what, timeout=3600, threads=threads)


def timing_request(
    forms: Mapping[str, Path], texts: list[str], seed: list[int], seconds: float = SECONDS
) -> dict[str, Any]:
    """Return the request of a process that times forms: texts are the token ids of a row each."""
    cores = machine.cores()
    return {
        "job": "latency",
        "bundles": {name: str(form) for name, form in forms.items()},
        "twice": next(iter(forms)),
        "texts": texts,
        "pairs": None,
        "provider": "cpu",
        "alike": False,
        "threads": 1,
        "warming": seconds,
        "timing": seconds,
        "calls": 0,
        "lengths": LENGTHS,
        "cold": 0,
        "seed": seed,
        "cores": [cores[seed[-1] % len(cores)]],
    }


class Race:
    """One model's race, in its own folder."""

    def __init__(self, home: Path, name: str) -> None:
        self.name, self.folder = name, home / name
        contestants.prepare(home, name)
        folders = contestants.convert(home, name)

        def failures() -> dict[str, str | None]:
            return {form: self._failure(folder) for form, folder in folders.items()}

        self.broken: dict[str, str] = {}
        """Forms that cannot answer a row of some length, with their error: they do not race."""
        self.forms: dict[str, Path] = {}
        for form, error in load_or_make(self.folder / "fails.json", failures).items():
            if error:
                self.broken[form] = error
            else:
                self.forms[form] = folders[form]
        self.texts = json.loads((self.folder / "eval.json").read_text())

    def _failure(self, form: Path) -> str | None:
        request = {"job": "fails", "form": str(form), "lengths": LENGTHS}
        error: str | None = call(request, f"{self.name}: {form.name} at each length")["fails"]
        return error

    def session(self, kind: str, number: int, names: list[str]) -> dict[str, Any]:
        """Return the timings of one process with these forms."""
        forms = {name: self.forms[name] for name in names}
        request = timing_request(forms, self.texts[:TIMED], [len(kind), number])
        path = self.folder / "times" / f"{kind}-{number}.json"
        make = partial(call, request, f"{self.name}: {kind} {number + 1}")
        timings: dict[str, Any] = load_or_make(path, make)
        return timings

    def latencies(self) -> dict[str, Times]:
        """Return length -> form -> process × calls, of the final."""
        everyone = list(self.forms)
        heats = [self.session("heat", number, everyone) for number in range(HEATS)]
        finalists = self._finalists(by_length(heats))
        finals = [self.session("final", number, finalists) for number in range(FINALS)]
        for number, final in enumerate(finals):
            if final["busy"]:
                reasons = "; ".join(final["busy"])
                print(f"final {number + 1}: {reasons}", file=sys.stderr)
        return by_length(finals)

    def _finalists(self, heats: dict[str, Times]) -> list[str]:
        """Return our forms, those in float, and each tool's fastest of some length."""
        int8 = [form for form in self.forms if form not in FLOAT]
        ours = [form for form in self.forms if tool(form) == "ours"]
        finalists = {*FLOAT, *ours}
        for times in heats.values():
            finalists |= fastest_of_tools(times, int8)
        return [form for form in self.forms if form in finalists]

    def logits(self, form: str) -> np.ndarray[Any, Any]:
        """Return a form's logits of the eval rows (rows, labels), or those of PyTorch in float."""
        if form == "float":
            return np.array(load_or_make(self.folder / "answers" / "float.json", self._float))
        request = {"job": "answers", "form": str(self.forms[form]), "texts": self.texts}
        path = self.folder / "answers" / f"{form}.json"
        reply = load_or_make(path, partial(call, request, f"{self.name}: answers of {form}"))
        return np.array(reply["logits"])

    def _float(self) -> list[list[float]]:
        import torch
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(self.folder / "checkpoint")
        model.eval()
        logits = []
        with torch.no_grad():
            for text in self.texts:
                ids = torch.tensor([json.loads(text)])
                output = model(ids, attention_mask=torch.ones_like(ids))
                logits.append(output.logits[0].tolist())
        return logits

    def rate(self, setup: Setup, turn: int) -> float:
        """Return the rows a second of a form in a turn."""
        form, workers, batch = setup
        threads = 3 - workers
        cores = machine.cores()[:2]
        shares = [cores]
        if workers == 2:
            shares = [[core] for core in cores]
        request = {
            "job": "rate",
            "form": str(self.forms[form]),
            "texts": self.texts[:COUNTED],
            "cores": shares,
            "batch": batch,
            "seconds": 1.0,
            "seed": turn,
        }
        name = f"{form}-{workers}x{threads}-{batch}-{turn}"
        path = self.folder / "rates" / f"{name}.json"
        make = partial(call, request, f"{self.name}: rows a second {name}", threads)
        reply = load_or_make(path, make)
        return float(reply["rate"])

    def rates(self, forms: list[str]) -> dict[str, tuple[Setup, list[list[float]]]]:
        """Return tool -> its best setup, and its rows a second, one a round."""
        trials = {}
        for form, workers, batch in product(forms, (2, 1), BATCHES):
            setup = Setup(form, workers, batch)
            trials[setup] = self.rate(setup, 0)
        best: dict[str, Setup] = {}
        for setup, rate in trials.items():
            name = tool(setup.form)
            if name not in best or rate > trials[best[name]]:
                best[name] = setup
        order = np.random.default_rng(0)
        rates: dict[str, list[list[float]]] = {name: [] for name in best}
        for turn in range(1, ROUNDS + 1):
            for name in order.permutation(sorted(best)).tolist():
                rates[name].append([self.rate(best[name], turn)])
        return {name: (setup, rates[name]) for name, setup in best.items()}

    def run(self) -> tuple[list[dict[str, Any]], list[Claim]]:
        """Return a row for each form, and the claims."""
        times = self.latencies()
        rows = self.qualities()
        for form in times[REAL]:
            rows[form]["ms"] = medians(times, form)
        # A batch is like a long row; the forms for VNNI have the same kernels as the default ones.
        plain = [form for form in times[REAL] if form not in FLOAT and not form.endswith("vnni")]
        best = fastest_of_tools(times[REAL], plain) | fastest_of_tools(times["256"], plain)
        rates = self.rates(sorted(best))
        for setup, rounds in rates.values():
            threads = 3 - setup.workers
            median = intervals.percentile_interval(rounds, 50)
            rows[setup.form]["rate"] = {
                "workers × threads, batch": f"{setup.workers}×{threads}, {setup.batch}",
                "rows a second": median._asdict(),
            }
        broken = []
        for form, error in self.broken.items():
            broken.append({"model": self.name, "form": form, "fails": error})
        return [*rows.values(), *broken], self.claims(rows, times, rates)

    def qualities(self) -> dict[str, dict[str, Any]]:
        """Return form -> its size, and how its answers differ from the float model's."""
        labels = np.array(json.loads((self.folder / "labels.json").read_text()))
        exact = planned.logarithms(self.logits("float"))
        float_correct = exact.argmax(1) == labels
        rows = {}
        for form, folder in self.forms.items():
            logs = planned.logarithms(self.logits(form))
            correct = logs.argmax(1) == labels
            gains = correct & ~float_correct
            losses = float_correct & ~correct
            change = intervals.paired_difference(int(gains.sum()), int(losses.sum()), len(correct))
            divergence = (np.exp(exact) * (exact - logs)).sum(1)
            sizes = [path.stat().st_size for path in folder.glob("model.*")]
            seconds = (folder / "seconds.json").read_text()
            rows[form] = {
                "model": self.name,
                "form": form,
                "size": sum(sizes),
                "seconds": json.loads(seconds),
                "kl": float(divergence.mean()),
                "accuracy": float(correct.mean()),
                "accuracy_change": change._asdict(),
            }
        return rows

    def claims(
        self,
        rows: dict[str, dict[str, Any]],
        times: dict[str, Times],
        rates: dict[str, tuple[Setup, list[list[float]]]],
    ) -> list[Claim]:
        """Compare one of our forms that are correct on every CPU with the fastest of theirs.

        It is the fastest of those that are at least as near to float as the nearest of theirs, or,
        if none is, the fastest.
        """
        theirs = [form for form in rows if tool(form) != "ours" and form not in FLOAT]
        nearest = min(rows[form]["kl"] for form in theirs)
        real = times[REAL]
        mine = [form for form in real if tool(form) == "ours" and not form.endswith("vnni")]
        near = [form for form in mine if rows[form]["kl"] <= nearest]
        ours = fastest(real, near or mine)
        claims = [self._speed_claim(length, models, ours) for length, models in times.items()]
        claims.append(self._rate_claim(rates))
        for what, key, unit in (("mean KL to float", "kl", 1.0), ("size", "size", 1e6)):
            of_theirs = {form: rows[form][key] / unit for form in theirs}
            least = min(of_theirs, key=of_theirs.__getitem__)
            of_ours = rows[ours][key] / unit
            claim = Claim(
                f"{title(self.name)}, {what}: {ours} against the least of theirs",
                "no larger",
                f"{of_ours:.3g}; {least} {of_theirs[least]:.3g}",
                of_ours <= of_theirs[least],
            )
            claims.append(claim)
        return claims

    def _speed_claim(self, length: str, models: Times, ours: str) -> Claim:
        theirs = [form for form in models if tool(form) != "ours" and form not in FLOAT]
        best = fastest(models, theirs)
        ratio = intervals.percentile_ratio(models[best], models[ours], 50)
        least = LEAST[length]
        if length != REAL and self.name != "6x384":
            least = min(least, 1.0)
        rows = length
        if length != REAL:
            rows = f"{length} tokens"
        return Claim(
            f"{title(self.name)}, {rows}: {ours} against the fastest",
            f"at least {least}×",
            f"{shown(ratio)}× the speed of {best}",
            is_at_least(ratio, least),
        )

    def _rate_claim(self, rates: dict[str, tuple[Setup, list[list[float]]]]) -> Claim:
        medians = {name: intervals.percentile_of(rounds, 50) for name, (_, rounds) in rates.items()}
        our_setup, our_rounds = rates["ours"]
        del medians["ours"]
        rival = max(medians, key=medians.__getitem__)
        setup, rounds = rates[rival]
        ratio = intervals.percentile_ratio(our_rounds, rounds, 50)
        return Claim(
            f"{title(self.name)}, rows a second on two cores: {our_setup.form} against the fastest",
            "ahead",
            f"{shown(ratio)}× those of {setup.form}",
            is_at_least(ratio, 1.0),
        )


def by_length(sessions: list[dict[str, Any]]) -> dict[str, Times]:
    """Return length -> form -> process × calls: real rows, and each fixed length."""
    first = sessions[0]
    forms = [name for name in first["wall"] if not name.startswith("(")]
    of_lengths = {REAL: [session["wall"] for session in sessions]}
    for length in first["fixed"]:
        of_lengths[length] = [session["fixed"][length] for session in sessions]
    times = {}
    for length, processes in of_lengths.items():
        times[length] = {form: [process[form] for process in processes] for form in forms}
    return times


def medians(times: dict[str, Times], form: str) -> dict[str, dict[str, float]]:
    """Return length -> a form's median in ms, with its interval."""
    found = {}
    for length, models in times.items():
        median = intervals.percentile_interval(models[form], 50)
        found[length] = median._asdict()
    return found


def shown(ratio: Interval) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of a model: ms at one thread, batch 1, with warm caches."""
    columns = [REAL, *map(str, LENGTHS)]
    table = Table(
        *("form", *columns, "rows/s", "as", "accuracy", "KL", "MB", "s"), title=rows[0]["model"]
    )
    for row in rows:
        if "fails" in row:
            table.add_row(row["form"], "fails at", row["fails"].partition(":")[0])
            continue
        ms = row.get("ms", {})
        cells = [f"{ms[at]['value']:.3g}" if at in ms else "" for at in columns]
        speed = setup = ""
        if "rate" in row:
            speed = f"{row['rate']['rows a second']['value']:.0f}"
            setup = row["rate"]["workers × threads, batch"]
        table.add_row(
            row["form"],
            *cells,
            speed,
            setup,
            f"{row['accuracy']:.2%}",
            f"{row['kl']:.2g}",
            f"{row['size'] / 1e6:.1f}",
            f"{row['seconds']:.0f}",
        )
    return table


def title(model: str) -> str:
    """Return what a claim on a model begins with: CPUs differ in who is ahead."""
    return f"{model} on {cpu()}"


def rest_of_record(names: Iterable[str]) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Return the record's rows and claims but those of some models on this CPU."""
    if not RESULTS.is_file():
        return [], []
    record = json.loads(RESULTS.read_text())
    measured = {(name, cpu()) for name in names}
    rows = [row for row in record["rows"] if (row["model"], row["cpu"]) not in measured]
    titles = tuple(f"{title(name)}," for name in names)
    claims = []
    for claim in record["must_show"]:
        if not claim["claim"].startswith(titles):
            claims.append(Claim(**claim))
    return rows, claims


def remove_ours(folder: Path) -> None:
    """Remove what was measured, and our forms; what other tools made stays."""
    shutil.rmtree(folder / "times", ignore_errors=True)
    shutil.rmtree(folder / "rates", ignore_errors=True)
    (folder / "fails.json").unlink(missing_ok=True)
    for form in contestants.OURS:
        shutil.rmtree(folder / "forms" / form, ignore_errors=True)
        (folder / "answers" / f"{form}.json").unlink(missing_ok=True)


def main() -> int:
    """Race each model; print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--again", action="store_true", help="make and time ours again")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(contestants.MODELS))
    options = parser.parse_args()
    names = options.models or list(contestants.MODELS)
    for name in names:
        if name not in contestants.MODELS:
            parser.error(f"no model {name!r}, only {', '.join(contestants.MODELS)}")
    home = options.home.resolve()
    for name in names:
        note = home / f"{name}.measured.json"
        if options.again or not is_of_now(note):
            remove_ours(home / name)
            note_now(note)
    rows, claims = rest_of_record(names)
    for name in names:
        model_rows, model_claims = Race(home, name).run()
        Console(width=160).print(table(model_rows))
        rows += [row | here() for row in model_rows]
        claims += model_claims
    order = list(contestants.MODELS)
    rows.sort(key=lambda row: order.index(row["model"]))
    claims.sort(key=lambda claim: order.index(claim.claim.split()[0]))
    return finish("race", rows, claims, seed=0)


if __name__ == "__main__":
    raise SystemExit(main())
