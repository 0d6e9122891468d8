"""The model card of a repository on the Hub: README.md with its front matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters import hub_tags
from exporters.forms.source import Source
from pipeline.release.provenance import Provenance
from pipeline.stage.tasks.sentence_embeddings import SENTENCE_EMBEDDINGS
from pipeline.terms import metrics
from pipeline.terms.vocabulary import STATIC
from pipeline.terms.wording import escape

REPOSITORY = "OWNER/NAME"
"""A repository's name, while it is not known."""
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
        return self.licence or (None if self.is_another(provenance) else provenance.licence)

    def missing(self, provenance: Provenance) -> list[str]:
        """Return what a card should name and neither the user nor the run says."""
        known = {
            "licence (--license)": self.licence_of(provenance),
            "base model (--base-model)": self.base_of(provenance),
            "data set (--dataset)": self.datasets or provenance.datasets,
        }
        return [what for what, value in known.items() if not value]


def write(
    source: Source,
    folder: Path,
    graph: str,
    provenance: Provenance,
    stated: Stated,
    repository: str = REPOSITORY,
) -> None:
    """Write README.md; ``graph`` is the name of the file in ``onnx/``.

    ``repository``: what the examples load.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # The card is Markdown, in which HTML escapes would be visible.
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
        keep_trailing_newline=True,
    )
    row = provenance.scored(source.bundle)
    manifest = source.bundle.manifest
    own = source.config["model_type"] == STATIC
    text = templates.get_template("hub_card.md.j2").render(
        front=front_matter(source, provenance, stated),
        title=escape(_title(provenance, stated, source)),
        base=stated.base_of(provenance),
        task=source.task,
        labels=[escape(label) for label in source.labels],
        precision=source.precision,
        max_length=source.max_length,
        graph=graph,
        repository=repository,
        dtype="q8" if source.precision == "int8" else source.precision,
        embeds=source.task == SENTENCE_EMBEDDINGS.name,
        pairs=bool(source.signature.get("pairs")),
        least_runtime=source.least_runtime,
        score=None if row is None or row.accuracy is None else _score(row.metric or "", row),
        rows=provenance.record.rows["eval"] if row and provenance.record else None,
        by="OpenVINO" if source.provider == "openvino" else None,
        digest=manifest.digest if manifest else None,
        # A model that labels words reads every text in windows.
        windows=bool(source.signature.get("windows") or source.signature.get("words")),
        # transformers.js has no class for our own model without attention, but opens it as any.
        opened="AutoModel" if own else "AutoModelForSequenceClassification",
        thresholds=source.task == "multi-label-classification",
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def front_matter(source: Source, provenance: Provenance, stated: Stated) -> str:
    """Return the card's YAML between its lines of dashes."""
    from huggingface_hub import ModelCardData

    base = stated.base_of(provenance)
    related = provenance.relation and not stated.is_another(provenance)
    row = provenance.scored(source.bundle)
    embeds = source.task == SENTENCE_EMBEDDINGS.name
    found: dict[str, Any] = {"base_model": base}
    found |= {"base_model_relation": provenance.relation} if related else {}
    data = ModelCardData(
        license=stated.licence_of(provenance),
        library_name="sentence-transformers" if embeds else "transformers.js",
        pipeline_tag=_pipeline(source),
        tags=["onnx", "rarefy", *([] if embeds else ["transformers.js"])],
        datasets=list(stated.datasets or provenance.datasets) or None,
        metrics=[METRICS.get(row.metric, row.metric)] if row and row.metric else None,
        model_name=_title(provenance, stated, source) if row else None,
        eval_results=_results(source, provenance) if row else None,
        **(found if base else {}),
    )
    return str(data.to_yaml())


def _pipeline(source: Source) -> str:
    return hub_tags.tag(source.task, bool(source.signature.get("pairs")))


def _title(provenance: Provenance, stated: Stated, source: Source) -> str:
    if provenance.record is not None:
        return provenance.record.name
    base = stated.base_of(provenance)
    return base.rpartition("/")[2] if base else source.folder.resolve().name


def _results(source: Source, provenance: Provenance) -> list[Any]:
    """Return the bundle's main score, as the Hub's model index has it."""
    from huggingface_hub import EvalResult

    row = provenance.scored(source.bundle)
    assert row is not None
    assert row.accuracy is not None
    return [
        EvalResult(
            task_type=_pipeline(source),
            dataset_type=provenance.tested or "unknown",
            dataset_name=provenance.tested or "eval split of the recipe",
            dataset_split="eval",
            metric_type=METRICS.get(row.metric or "", row.metric or ""),
            metric_name=metrics.title(row.metric or ""),
            metric_value=row.accuracy[0],
        )
    ]


def _score(metric: str, row: Any) -> str:
    value, low, high = row.accuracy
    scale, unit = (100, " %") if metrics.unit(metric) == "%" else (1, "")
    numbers = [f"{scale * number:.4g}" for number in (value, low, high)]
    return (
        f"{metrics.title(metric)} {numbers[0]}{unit} (95 % interval {numbers[1]} to {numbers[2]})"
    )
