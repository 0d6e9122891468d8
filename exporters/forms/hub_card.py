"""The model card of a repository on the Hub: README.md with its front matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarefy.exporters.bundle import files
from rarefy.exporters.forms.source import Source
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.model.runtime import onnx_runtime
from rarefy.pipeline.report import facts, headline
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.recipe_parts import BAG_OF_TOKENS
from rarefy.pipeline.terms.wording import bounds, escape, plural, quantity
from rarefy.pipeline.verdict.provenance import Provenance
from rarefy.pipeline.verdict.record import ReportData

REPOSITORY = "OWNER/NAME"
"""The repository that the examples load, until the user puts in its name."""
METRICS: Mapping[str, str] = {
    "macro_f1": "f1",
    "micro_f1": "f1",
    "entity_f1": "f1",
    "spearman": "spearmanr",
    "pearson": "pearsonr",
    "ndcg_10": "ndcg",
    "mrr_10": "mrr",
    "recall_10": "recall",
}
"""Our name of a metric -> the Hub's."""


@dataclass(frozen=True)
class Stated:
    """What the user says of a model; it counts more than what the run knows.

    ``licence``: the Hub's identifier, such as ``apache-2.0``. ``base`` and ``datasets``: names on
    the Hub.
    """

    licence: str | None = None
    base: str | None = None
    datasets: tuple[str, ...] = ()

    def base_of(self, provenance: Provenance) -> str | None:
        """Return the base model's name on the Hub."""
        return self.base or provenance.base

    def is_another(self, provenance: Provenance) -> bool:
        """Return whether the base model is not the one that the run knows."""
        return provenance.base is not None and self.base_of(provenance) != provenance.base

    def licence_of(self, provenance: Provenance) -> str | None:
        """Return the licence that is stated, or else that of the run's model, if it is the base."""
        if self.licence or self.is_another(provenance):
            return self.licence
        return provenance.licence

    def missing(self, provenance: Provenance) -> list[str]:
        """Return what a card should name and neither the user nor the run says."""
        facts = {
            "licence (--license)": self.licence_of(provenance),
            "base model (--base-model)": self.base_of(provenance),
            "data set (--dataset)": self.datasets or provenance.datasets,
        }
        return [name for name, value in facts.items() if not value]


def write(source: Source, folder: Path, graph: str, provenance: Provenance, stated: Stated) -> None:
    """Write README.md; ``graph`` is the name of the file in ``onnx/``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # The card is Markdown, in which HTML escapes would be visible.
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
        keep_trailing_newline=True,
    )
    template = templates.get_template("hub_card.md.j2")
    values = _bundle_facts(source) | _score_facts(source, provenance)
    values["front"] = front_matter(source, provenance, stated)
    values["title"] = escape(_title(provenance, stated, source))
    values["base"] = stated.base_of(provenance)
    values["graph"] = graph
    values["repository"] = REPOSITORY
    text = template.render(values)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _bundle_facts(source: Source) -> dict[str, Any]:
    """Return the template's values that the bundle's files say."""
    signature = source.signature
    dtype = source.precision
    if dtype == "int8":
        dtype = "q8"
    opened = "AutoModelForSequenceClassification"
    if source.config["model_type"] == BAG_OF_TOKENS:
        # transformers.js has no class for our own model without attention, but opens it as any.
        opened = "AutoModel"
    # A model that labels words reads every text in windows.
    windows = signature.get("windows") or signature.get("words")
    least = source.least_runtime
    misread = least == onnx_runtime.LEAST_PACKED
    thresholds = source.config.get("thresholds")
    return {
        "task": source.task,
        "labels": [escape(label) for label in source.labels],
        "precision": source.precision,
        "max_length": source.max_length,
        "dtype": dtype,
        "embeds": source.task == SENTENCE_EMBEDDINGS.name,
        "pairs": bool(signature.get("pairs")),
        "least_runtime": least,
        "misread": misread,
        "digest": source.digest,
        "windows": bool(windows),
        "opened": opened,
        "thresholds": bool(thresholds),
    }


def _score_facts(source: Source, provenance: Provenance) -> dict[str, Any]:
    """Return the template's values about the score: None if the run did not score the bundle."""
    row = provenance.scored(source.digest)
    score, rows, runtime = None, None, None
    if row is not None:
        score = _score(row.metric or "", row)
        if provenance.record is not None:
            rows = provenance.record.rows["eval"]
    if source.provider == "openvino":
        runtime = "OpenVINO"
    gains = []
    if provenance.record is not None and provenance.judges(source.digest):
        gains = _gains(provenance.record)
    return {"score": score, "rows": rows, "by": runtime, "gains": gains}


def _gains(record: ReportData) -> list[tuple[str, str]]:
    """Return the latency, the size and the original's score in words, as far as measured."""
    measured = record.measurements
    assert measured is not None
    name = facts.reference(record)
    gains = []
    original = None if name is None else facts.accuracy(record, name)
    if original is not None:
        score = bounds(original, metrics.unit(measured.main))
        gains.append((f"{measured.main} of the original, {escape(str(name))}", score))
    for target, timed in measured.latency.items():
        if not any(timed.samples.get(CANDIDATE, [])):
            continue
        text = bounds(timed.percentile(CANDIDATE, 50), "ms")
        ratio = facts.speedup(record, target)
        if ratio is not None:
            number = headline.comparison(ratio, "faster", "slower", "")
            text += f", {number.figure} {number.meaning} than the original"
        cpu = measured.machine.get("cpu", "unknown CPU")
        threads = plural(timed.threads, "thread")
        text += f", on {escape(str(cpu))} with {threads}"
        gains.append(("p50 latency of one text", text))
        break
    models = measured.models
    size = quantity(models[CANDIDATE].size, "B")
    if name is not None and name in models:
        before = quantity(models[name].size, "B")
        size += f", the original {before}"
    gains.append(("size of all files", size))
    return gains


def front_matter(source: Source, provenance: Provenance, stated: Stated) -> str:
    """Return the card's YAML between its lines of dashes."""
    from huggingface_hub import ModelCardData

    library = "sentence-transformers"
    tags = ["onnx", "rarefy"]
    if source.task != SENTENCE_EMBEDDINGS.name:
        library = "transformers.js"
        tags.append(library)
    datasets = stated.datasets or provenance.datasets
    fields = _base_fields(provenance, stated)
    row = provenance.scored(source.digest)
    if row is not None:
        fields["model_name"] = _title(provenance, stated, source)
        fields["eval_results"] = _results(source, provenance)
        if row.metric:
            fields["metrics"] = [METRICS.get(row.metric, row.metric)]
    data = ModelCardData(
        license=stated.licence_of(provenance),
        library_name=library,
        pipeline_tag=_pipeline(source),
        tags=tags,
        datasets=list(datasets) or None,
        **fields,
    )
    return str(data.to_yaml())


def _base_fields(provenance: Provenance, stated: Stated) -> dict[str, Any]:
    """Return what the front matter says of the base model; empty if it is not known."""
    base = stated.base_of(provenance)
    if not base:
        return {}
    fields: dict[str, Any] = {"base_model": base}
    if provenance.relation and not stated.is_another(provenance):
        fields["base_model_relation"] = provenance.relation
    return fields


def _pipeline(source: Source) -> str:
    pairs = bool(source.signature.get("pairs"))
    return files.hub_tag(source.task, pairs)


def _title(provenance: Provenance, stated: Stated, source: Source) -> str:
    if provenance.record is not None:
        return provenance.record.name
    base = stated.base_of(provenance)
    if base:
        return base.rpartition("/")[2]
    return source.folder.resolve().name


def _results(source: Source, provenance: Provenance) -> list[Any]:
    """Return the bundle's main score, as the Hub's model index has it."""
    from huggingface_hub import EvalResult

    row = provenance.scored(source.digest)
    assert row is not None
    assert row.accuracy is not None
    metric = row.metric or ""
    result = EvalResult(
        task_type=_pipeline(source),
        dataset_type=provenance.tested or "unknown",
        dataset_name=provenance.tested or "eval split of the recipe",
        dataset_split="eval",
        metric_type=METRICS.get(metric, metric),
        metric_name=metrics.title(metric),
        metric_value=row.accuracy[0],
    )
    return [result]


def _score(metric: str, row: Any) -> str:
    """Return a row's accuracy with its interval, in words."""
    scale, unit = 1, ""
    if metrics.unit(metric) == "%":
        scale, unit = 100, "%"
    value, low, high = (f"{scale * number:.4g}" for number in row.accuracy)
    return f"{metrics.title(metric)} {value}{unit} (95% interval {low} to {high})"
