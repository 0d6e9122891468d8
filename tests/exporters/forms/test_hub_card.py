"""The model card in the Hub's form, as its own library reads it."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from rarefy.exporters.forms import hub, hub_card
from rarefy.exporters.forms.hub_card import Stated
from rarefy.pipeline.verdict.provenance import Provenance
from rarefy.pipeline.verdict.record import LedgerRow
from tests.exporters.forms import bundles
from tests.pipeline.report.factory import digest, report_data


def provenance(source, metric="accuracy", **changes):
    row = LedgerRow(
        id="export",
        stage="export",
        kind="bundle",
        digest=source.digest,
        cached=False,
        seconds=1,
        metric=metric,
        accuracy=(0.875, 0.85, 0.9),
        rows=400,
        size=1000,
    )
    record = report_data().model_copy(update={"ledger": [row], "name": "reviews"})
    values = {
        "record": record,
        "model": "hub:owner/base@main",
        "licence": "mit",
        "stages": ("import", "finetune", "quantize", "export"),
        "datasets": ("owner/training", "owner/reviews"),
        "tested": "owner/reviews",
    }
    return Provenance(**(values | changes))


def card(source, folder, known, stated=None):
    hub_card.write(source, folder, "model.onnx", known, stated or Stated())
    return ModelCard.load(folder / "README.md")


def test_the_card_names_licence_base_data_and_score(classifier, tmp_path):
    found = bundles.read(classifier, "0" * 64)
    written = card(found, tmp_path, provenance(found))
    data = written.data
    assert (data.license, data.base_model, data.datasets) == (
        "mit",
        "owner/base",
        ["owner/training", "owner/reviews"],
    )
    assert data.base_model_relation == "finetune"
    assert (data.pipeline_tag, data.library_name) == ("text-classification", "transformers.js")
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.875)
    assert (result.dataset_type, data.model_name) == ("owner/reviews", "reviews")
    assert "Accuracy 87.5% (95% interval 85 to 90)" in written.text


def test_a_score_on_other_rows_names_no_data_set_of_the_hub(classifier, tmp_path):
    found = bundles.read(classifier, "0" * 64)
    written = card(found, tmp_path, provenance(found, tested=None))
    (result,) = written.data.eval_results
    assert (result.dataset_type, result.dataset_name) == ("unknown", "eval split of the recipe")
    assert "on 2500 held-out rows" in written.text


def test_a_model_of_which_not_all_is_known_claims_no_relation(classifier, tmp_path):
    found = bundles.read(classifier, "0" * 64)
    data = card(found, tmp_path, provenance(found, stages=("export",))).data.to_dict()
    assert data["base_model"] == "owner/base"
    assert "base_model_relation" not in data


def test_the_card_says_that_long_texts_are_cut_and_who_answered(classifier, tmp_path):
    bundles.change(classifier, "signature.json", lambda values: values.update(words=True))
    assert (
        "longer texts were read in windows"
        in card(bundles.read(classifier), tmp_path, Provenance()).text
    )
    given = {"providers": ["OpenVINO"]}
    bundles.change(classifier, "session_options.json", lambda values: values.update(given))
    found = bundles.read(classifier, "0" * 64)
    assert "answered by OpenVINO" in card(found, tmp_path, provenance(found)).text


def test_what_the_user_says_counts_more(classifier, tmp_path):
    found = bundles.read(classifier, "0" * 64)
    stated = Stated("apache-2.0", "owner/other", ("owner/data",))
    data = card(found, tmp_path, provenance(found), stated).data
    assert (data.license, data.base_model, data.datasets) == (
        "apache-2.0",
        "owner/other",
        ["owner/data"],
    )


@pytest.mark.parametrize("base", ["owner/other", "another/base"])
def test_another_base_does_not_inherit_the_licence_of_the_run_s_model(classifier, tmp_path, base):
    found, stated = (
        bundles.read(classifier, "0" * 64),
        Stated(base=base, datasets=("owner/data",)),
    )
    data = card(found, tmp_path, provenance(found), stated).data.to_dict()
    assert data["base_model"] == base
    assert not {"license", "base_model_relation"} & data.keys()
    assert stated.missing(provenance(found)) == ["licence (--license)"]
    packaged = provenance(found, model="package:base/model")
    assert card(found, tmp_path, packaged, stated).data.license == "mit", "of the package's card"


def test_the_card_names_the_runtime_that_4_bit_embeddings_need(classifier, tmp_path):
    found = bundles.read(classifier, "0" * 64)
    text = card(found, tmp_path, Provenance()).text
    said = "Needs ONNX Runtime 1.23 or later: earlier ones refuse to load it, as transformers.js 3"
    assert said in text
    vars(found)["least_runtime"] = "1.28"
    text = card(found, tmp_path, Provenance()).text
    assert "Needs ONNX Runtime 1.28 or later: earlier ones misread its 4-bit embeddings" in text


def test_a_card_without_facts_claims_nothing(classifier, tmp_path):
    written = card(bundles.read(classifier), tmp_path, Provenance())
    data = written.data.to_dict()
    assert not {"license", "base_model", "base_model_relation", "datasets", "metrics"} & set(data)
    assert "model-index" not in data
    assert Stated().missing(Provenance()) == [
        "licence (--license)",
        "base model (--base-model)",
        "data set (--dataset)",
    ]


def test_a_model_that_was_only_quantized_is_said_to_be_that(classifier, tmp_path):
    found = bundles.read(classifier, "0" * 64)
    known = provenance(found, stages=("import", "quantize", "export"))
    assert card(found, tmp_path, known).data.base_model_relation == "quantized"


def test_a_bundle_that_embeds_is_for_sentence_transformers(embedder, tmp_path):
    found = bundles.read(embedder, "0" * 64)
    written = card(found, tmp_path, provenance(found, metric="spearman"))
    data = written.data
    assert data.library_name == "sentence-transformers"
    assert data.pipeline_tag == "sentence-similarity"
    assert data.eval_results[0].metric_type == "spearmanr"
    assert "Spearman correlation 0.875 (95" in written.text
    assert 'backend="onnx"' in written.text


@pytest.mark.parametrize("pairs", [True, False])
def test_a_reranker_is_for_ranking(classifier, tmp_path, pairs):
    changed = {"task": "regression", "pairs": pairs}
    bundles.change(classifier, "signature.json", lambda values: values.update(changed))
    written = card(bundles.read(classifier), tmp_path, Provenance())
    expected = "text-ranking" if pairs else "text-classification"
    assert written.data.pipeline_tag == expected
    assert ("text_pair" in written.text) is pairs


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_the_examples_load_the_repository(classifier, embedder, tmp_path, task):
    bundles.change(classifier, "signature.json", lambda values: values.update(task=task))
    for folder in (classifier, embedder):
        source = bundles.read(folder)
        hub_card.write(source, tmp_path, "model.onnx", Provenance(), Stated())
        assert '"OWNER/NAME"' in (tmp_path / "README.md").read_text()


def test_labels_cannot_change_the_card(classifier, tmp_path):
    evil = {"0": "a | b\n# evil", "1": "<script>"}
    bundles.change(classifier, "config.json", lambda values: values.update(id2label=evil))
    text = card(bundles.read(classifier), tmp_path, Provenance()).text
    assert "\n# evil" not in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    ("kind", "opened"),
    [("rarefy-bag-of-tokens", "AutoModel"), ("bert", "AutoModelForSequenceClassification")],
)
def test_the_card_opens_the_model_by_a_class_that_there_is(classifier, tmp_path, kind, opened):
    bundles.change(classifier, "config.json", lambda values: values.update(model_type=kind))
    text = card(bundles.read(classifier), tmp_path, Provenance()).text
    assert f"import {{ {opened}, AutoTokenizer }}" in text
    assert f"await {opened}.from_pretrained" in text


def test_the_card_has_what_was_gained_on_which_cpu(classifier, tmp_path):
    found = bundles.read(classifier, digest("export"))
    text = card(found, tmp_path, provenance(found)).text
    assert "| accuracy of the original, teacher | 83.2% [" in text
    assert (
        "× faster than the original, on Intel(R) Xeon(R) Processor @ 2.10GHz with 1 thread |"
        in text
    )
    assert "| size of all files | 15.4 MB, the original 91.6 MB |" in text


def test_the_python_on_the_card_answers(classifier, tmp_path):
    hub.write(bundles.read(classifier), tmp_path, Provenance(), Stated())
    text = (tmp_path / "README.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    local = code.replace('snapshot_download("OWNER/NAME")', repr(str(tmp_path)))
    assert local != code
    values = {}
    exec(local, values)
    assert values["logits"].shape == (1, 2)
