"""A bundle answers or gives a one-line error; a malicious graph is not loaded."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rarefy.pipeline.model.runtime import onnx_runtime
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.runtime.providers import PROVIDERS
from rarefy.pipeline.model.tokens import windows
from rarefy.pipeline.terms.errors import DataError, ModelError, ProviderError
from tests.models import TASK, probabilities

WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "good": 3, "bad": 4, "film": 5}


def write_bundle(directory):
    """A handmade classifier: the logits are the counts of 'bad' and of 'good'."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(directory / "tokenizer.json"))
    table = np.zeros((6, 2), dtype=np.float32)
    table[4, 0] = table[3, 1] = 1
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "axis"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["seen"]),
            helper.make_node("ReduceSum", ["seen", "one"], ["logits"], keepdims=0),
        ],
        "counts",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            onnx.numpy_helper.from_array(table, "table"),
            onnx.numpy_helper.from_array(np.array([2]), "axis"),
            onnx.numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, directory / "model.onnx")
    files = {
        "config.json": {"id2label": {"0": "negative", "1": "positive"}},
        "signature.json": {
            "task": "text-classification",
            "outputs": [{"name": "logits"}],
            "inputs": [{"name": "input_ids"}, {"name": "attention_mask"}],
            "max_length": 6,
        },
        "session_options.json": {"graph_optimization_level": "basic"},
    }
    for name, value in files.items():
        (directory / name).write_text(json.dumps(value))
    return directory


def test_it_answers_with_probabilities(tmp_path):
    model = BundleModel(write_bundle(tmp_path))
    assert model.labels == ("negative", "positive")
    answers = TASK.head.predictions(model.units(["good film", "bad bad film", "film"]))
    share = np.exp([1, -2, 0]) / (1 + np.exp([1, -2, 0]))
    np.testing.assert_allclose(answers[:, 1], share, rtol=1e-6)
    np.testing.assert_allclose(answers.sum(axis=1), 1)


def recorded(directory, **facts):
    """Write a bundle whose signature records these facts."""
    path = write_bundle(directory) / "signature.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return BundleModel(directory)


@pytest.mark.parametrize("way", ["words", "windows"])
def test_pairs_are_refused_by_a_bundle_that_reads_words_or_windows(tmp_path, way):
    with pytest.raises(DataError, match=f"^this bundle reads single texts in {way}, not pairs"):
        recorded(tmp_path, **{way: True}).units(["good"], ["film"])


def test_single_texts_are_refused_by_a_bundle_that_reads_pairs(tmp_path):
    model = recorded(tmp_path, pairs=True)
    with pytest.raises(DataError, match="this bundle reads pairs of texts; give a second"):
        model.units(["good"])
    assert model.units(["good"], ["film"]).shape == (1, 2)


def test_pairs_are_refused_by_a_bundle_that_reads_single_texts(tmp_path):
    model = recorded(tmp_path, pairs=False)
    with pytest.raises(DataError, match="this bundle reads single texts, not pairs of texts"):
        model.units(["good"], ["film"])
    assert model.units(["good"]).shape == (1, 2)


class Interrupted:
    """A tokenizer; while it first encodes, another thread asks the model about another text."""

    def __init__(self, model: BundleModel) -> None:
        self.real, self.model, self.threads = model.tokenizer, model, list[Thread]()

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def encode_batch(self, texts: list[str]) -> object:
        if not self.threads:
            self.threads.append(Thread(target=self.model.asked, args=(["bad film"],)))
            self.threads[0].start()
            self.threads[0].join()
        return self.real.encode_batch(texts)


@pytest.mark.parametrize("way", ["words", "windows"])
def test_threads_share_a_bundle_that_reads_words_or_windows(tmp_path, way):
    model = recorded(tmp_path, **{way: True})
    (tmp_path / "tokenizer_config.json").write_text("{}")
    texts = ["good film " * 9]
    ((alone, _),) = model.asked(texts)
    assert len(alone["input_ids"]) > 1, "windows"
    shared = windows.overlap(model.tokenizer, model.signature["max_length"])
    assert model.tokenizer.truncation["stride"] == shared > 0, "neighbours overlap"
    model.tokenizer = Interrupted(model)
    ((beside, _),) = model.asked(texts)
    assert model.tokenizer.threads
    assert {name: rows.tolist() for name, rows in beside.items()} == {
        name: rows.tolist() for name, rows in alone.items()
    }


def test_rows_are_fed_alone_and_cut_to_the_longest_input(tmp_path):
    model = BundleModel(write_bundle(tmp_path))
    short, long = model.encode(["good", "good " * 50])
    assert short["input_ids"].tolist() == [[1, 3, 2]]
    assert short["attention_mask"].dtype == np.int64
    assert long["input_ids"].shape == (1, 6)


def test_a_bundle_that_records_left_reads_the_end_of_a_long_text(tmp_path):
    """Also of one that is so long that only its beginning would be tokenized."""
    model = recorded(tmp_path, truncation_side="left")
    (feed,) = model.encode(["good " * 500 + "film bad"])
    assert feed["input_ids"].tolist() == [[1, 3, 3, 5, 4, 2]]


def test_rows_of_equal_length_run_together_and_keep_their_places(tmp_path, monkeypatch):
    model = BundleModel(write_bundle(tmp_path))
    texts = ["good film", "bad", "bad film", "good", "film", "good bad film", "bad good"]
    alone = model.units(texts)
    sizes = []
    run = BundleModel.run

    def noted(self, feed):
        sizes.append(feed["input_ids"].shape)
        return run(self, feed)

    monkeypatch.setattr(BundleModel, "run", noted)
    together = model.units(texts, together=2)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert sorted(sizes) == [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4)]


@pytest.mark.parametrize(
    ("way", "interact", "sizes"),
    [("windows", False, [32, 32, 1]), ("windows", True, [65]), ("words", False, [32, 32, 1])],
)
def test_a_text_of_many_windows_runs_in_parts(tmp_path, monkeypatch, way, interact, sizes):
    """Or the memory that it needs would grow with its length."""
    (tmp_path / "tokenizer_config.json").write_text("{}")
    model = recorded(tmp_path, **{way: True})
    monkeypatch.setattr(model, "rows_interact", interact)
    calls, whole = [], model.session

    class Session:
        def run(self, names, feed):
            calls.append(feed["input_ids"].shape)
            return whole.run(names, feed)

    monkeypatch.setattr(model, "session", Session())
    (feed,) = model.encode(
        ["good " * 4 + "bad film " * 63 + "bad film"]
    )  # two more tokens in each window
    outputs = model.run(feed)
    assert calls == [(size, 6) for size in sizes]
    assert outputs.tolist() == [[0, 4], [1, 2], *[[2, 0]] * 63]


@pytest.mark.parametrize("way", ["rows", "words", "windows"])
def test_a_text_without_tokens_is_refused_in_one_line(tmp_path, way):
    """Tokenizers without special tokens, as GPT-2's is, have none for an empty text."""
    from tokenizers import processors

    (tmp_path / "tokenizer_config.json").write_text("{}")
    model = recorded(tmp_path, **{way: True})
    assert len(model.asked(["film", ""])) == 2
    model.tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    with pytest.raises(DataError, match=r"^the text '' has no tokens, so there is no prediction$"):
        model.asked(["film", ""])


def test_rows_interact_if_ranges_are_found_at_run_time(tmp_path):
    model = BundleModel(write_bundle(tmp_path))
    graph = onnx.load(tmp_path / "model.onnx")
    helper.set_model_props(graph, {"note": "no DynamicQuantizeLinear"})
    onnx.save(graph, tmp_path / "model.onnx")
    assert not BundleModel(tmp_path).rows_interact, "the name alone is no operator"
    names = ["whole", "scale", "zero"]
    graph.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["kept"], names))
    onnx.save(graph, tmp_path / "model.onnx")
    assert model.rows_interact


def test_a_graph_without_such_an_operator_s_name_is_not_parsed(tmp_path, monkeypatch):
    model = BundleModel(write_bundle(tmp_path))
    monkeypatch.delattr(onnx, "load")  # takes twice the file's size in memory
    assert not model.rows_interact


def test_pairs_are_encoded_together(tmp_path):
    model = recorded(tmp_path, pairs=True)
    (feed,) = model.encode(["good"], ["bad"])
    assert feed["input_ids"].tolist() == [[1, 3, 2, 4, 2]]


def test_rows_that_are_encoded_together_are_padded_and_answered_as_alone(tmp_path):
    model = recorded(tmp_path, pairs=False)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "film"}')
    texts = ["good", "bad bad film"]
    feed = model.encode_together(texts)
    assert feed["input_ids"].tolist() == [[1, 3, 2, 5, 5], [1, 4, 4, 5, 2]]
    assert feed["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    np.testing.assert_allclose(model.run(feed), model.units(texts))


@pytest.mark.parametrize("way", ["words", "windows"])
def test_the_windows_of_all_texts_are_encoded_together(tmp_path, way):
    model = recorded(tmp_path, **{way: True})
    (tmp_path / "tokenizer_config.json").write_text("{}")
    texts = ["good", "bad " * 9]
    alone = [len(feed["input_ids"]) for feed in model.encode(texts)]
    together = model.encode_together(texts)["input_ids"]
    assert together.shape == (sum(alone), 6)
    assert together[0].tolist() == [1, 3, 2, 0, 0, 0]


def test_texts_and_pairs_that_do_not_fit_are_refused_together_too(tmp_path):
    with pytest.raises(DataError, match="this bundle reads pairs of texts; give a second"):
        recorded(tmp_path, pairs=True).encode_together(["good"])


def test_a_provider_that_is_not_there_is_said(tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has it")
    with pytest.raises(ProviderError, match="provider 'cuda' is not active"):
        BundleModel(write_bundle(tmp_path), provider="cuda")


def test_a_provider_that_does_not_exist_is_said(tmp_path):
    expected = "provider 'gpu': expected one of cpu, cuda, tensorrt, openvino"
    with pytest.raises(ProviderError, match=expected):
        BundleModel(write_bundle(tmp_path), provider="gpu")


def test_a_directory_that_is_no_bundle_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json is missing; is this a bundle"):
        BundleModel(tmp_path)


def test_a_linked_graph_is_read_if_it_names_no_files(tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    write_bundle(bundle)
    (bundle / "model.onnx").rename(tmp_path / "model.onnx")
    (bundle / "model.onnx").symlink_to(tmp_path / "model.onnx")
    assert BundleModel(bundle).units(["good film"]).shape == (1, 2)


def test_the_call_on_the_device_gives_the_same_logits(tmp_path):
    model = BundleModel(write_bundle(tmp_path))
    for feed in model.encode(["good film", "bad bad", "film"]):
        bound = model.resident(feed)
        model.session.run_with_iobinding(bound)
        np.testing.assert_array_equal(bound.copy_outputs_to_cpu()[0], model.run(feed))
        assert model.device_ms(feed) > 0


class GPU:
    """An onnxruntime that lists a GPU; its sessions report that they run on ``providers``."""

    def __init__(self, monkeypatch, providers=("CUDAExecutionProvider", "CPUExecutionProvider")):
        import onnxruntime

        promised = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
        gpu, real = self, onnxruntime.InferenceSession

        class Session(real):
            def __init__(self, path, options, providers, **keywords):
                gpu.asked = providers
                gpu.start()
                super().__init__(path, options, providers=["CPUExecutionProvider"], **keywords)

            def get_providers(self):
                return list(providers)

        monkeypatch.setattr(onnx_runtime, "inactive", onnx_runtime.inactive.__wrapped__)  # anew
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: promised)
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn"))
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)

    def start(self):
        pass


def test_a_session_that_fell_back_to_the_cpu_is_refused(tmp_path, monkeypatch, capsys):
    GPU(monkeypatch, providers=["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="the session runs on CPUExecutionProvider"):
        BundleModel(write_bundle(tmp_path), provider="cuda")
    assert not capsys.readouterr().out  # a command's stdout is its data


def test_a_provider_that_runs_no_node_is_refused(tmp_path, monkeypatch):
    GPU(monkeypatch)
    with pytest.raises(ProviderError, match=r"but most .* run elsewhere: \d+ on CPUExecution"):
        BundleModel(write_bundle(tmp_path), provider="cuda")


def test_a_provider_that_cannot_start_is_said_and_not_replaced(tmp_path, monkeypatch, capsys):
    gpu = GPU(monkeypatch)

    def fail():
        raise RuntimeError("libcublasLt.so.12: cannot open shared object file\nat 0x7f")

    gpu.start = fail
    with pytest.raises(ProviderError, match=r"'cuda' is not active: libcublasLt.*file$"):
        BundleModel(write_bundle(tmp_path), provider="cuda")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("provider", "name"), [("cpu", "EPFail"), ("cuda", "RuntimeException"), ("cuda", "Fail")]
)
def test_a_provider_that_fails_at_a_call_does_not_answer_elsewhere(
    tmp_path, monkeypatch, provider, name
):
    """CUDA has no exception of its own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    model = BundleModel(write_bundle(tmp_path))
    model.provider = provider

    class Broken:
        def is_webgpu_graph_capture_enabled(self):
            return False

        def run(self, outputs, feed, run_options):
            raise getattr(state, name)("CUDA failure 2: out of memory")

        io_binding = run

    monkeypatch.setattr(model.session, "_sess", Broken())
    with pytest.raises(ProviderError, match=f"'{provider}' failed: CUDA failure 2"):
        model.run(model.encode(["good"])[0])


def test_tensorrt_keeps_the_engines_of_other_weights_apart(tmp_path, monkeypatch):
    """TensorRT's own engine name covers only shapes, so it could load another model's engine."""
    gpu = GPU(monkeypatch)
    monkeypatch.setattr(onnx_runtime, "inactive", lambda _: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = []
    for name, precision in (("a", "fp32"), ("b", "fp16"), ("again", "fp32"), ("c", "int8")):
        bundle = tmp_path / name
        bundle.mkdir()
        write_bundle(bundle)
        graph = onnx.load(bundle / "model.onnx")
        helper.set_model_props(graph, {"precision": precision})
        onnx.save(graph, bundle / "model.onnx")
        with pytest.raises(ProviderError):
            BundleModel(bundle, provider="tensorrt")
        (engine, options), fallback = gpu.asked
        assert (engine, fallback) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
        assert options["trt_fp16_enable"] == str(precision == "fp16")
        assert options["trt_int8_enable"] == str(precision == "int8")
        assert Path(options["trt_engine_cache_path"]).is_dir()
        folders.append(options["trt_engine_cache_path"])
    assert folders[0] == folders[2] != folders[1]
    assert len(set(folders)) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_answers_as_the_cpu_does(tmp_path, provider):

    if why := onnx_runtime.inactive(PROVIDERS[provider]):
        pytest.skip(f"{provider}: {why}")
    bundle, texts = write_bundle(tmp_path), ["good film", "bad bad film", "film"]
    model = BundleModel(bundle, provider=provider)
    expected = probabilities(bundle, texts)
    np.testing.assert_allclose(TASK.head.predictions(model.units(texts)), expected, atol=1e-3)
    feed = model.encode(texts)[0]
    bound = model.resident(feed)
    model.session.run_with_iobinding(bound)
    np.testing.assert_allclose(bound.copy_outputs_to_cpu()[0], model.run(feed), atol=1e-3)
    assert model.device_ms(feed) > 0


def test_opening_a_bundle_starts_one_session(tmp_path, monkeypatch):
    """One more, to see whether the provider starts, would be in the measured cold start."""
    GPU(monkeypatch)
    monkeypatch.setattr(onnx_runtime, "inactive", lambda _: pytest.fail("started another"))
    with pytest.raises(ProviderError, match="run elsewhere"):
        BundleModel(write_bundle(tmp_path), provider="cuda")
