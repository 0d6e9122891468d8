"""The bundle's own predict.py."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from exporters.bundle import files, predict, session_onnxruntime


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="here a GPU may answer")
def test_a_copied_bundle_never_answers_on_another_provider(deployed, tmp_path):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    options = json.loads((there / "session_options.json").read_text())
    options["providers"] = ["CUDAExecutionProvider"]
    (there / "session_options.json").write_text(json.dumps(options))
    command = [sys.executable, "predict.py", "a text"]
    answer = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "CUDAExecutionProvider is not active" in answer.stderr


@pytest.mark.parametrize(
    ("providers", "options"),
    [
        (["CUDAExecutionProvider"], None),
        (
            ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
            [{"trt_fp16_enable": "1", "trt_int8_enable": "0"}, {}],
        ),
    ],
)
def test_a_session_on_a_gpu_has_its_options_and_never_moves_to_the_cpu(
    deployed, tmp_path, monkeypatch, capsys, providers, options
):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    stored = json.loads((there / "session_options.json").read_text())
    stored["providers"] = providers
    (there / "session_options.json").write_text(
        json.dumps(stored | ({"provider_options": options} if options else {}))
    )
    asked = {}

    class Session:
        def __init__(self, path, settings, **given):
            asked.update(given)

        def get_providers(self):
            return providers

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("libcudnn loaded"))
    spec = importlib.util.spec_from_file_location("predict", there / "predict.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load()
    assert asked == {"providers": providers, "provider_options": options, "enable_fallback": 0}
    assert capsys.readouterr() == ("", "libcudnn loaded\n")


@pytest.mark.parametrize(("graph", "sizes"), [(b"Gemm", [32, 32, 6]), (b"DynamicQuantize", [70])])
def test_a_text_of_many_windows_runs_in_parts_unless_they_interact(
    tmp_path, monkeypatch, graph, sizes
):
    (tmp_path / "model.onnx").write_bytes(graph)
    monkeypatch.setattr(predict, "HERE", tmp_path)
    calls = []

    class Session:
        def get_inputs(self):
            return [SimpleNamespace(name="input_ids")]

        def run(self, names, feed):
            calls.append(len(feed["input_ids"]))
            return [feed["input_ids"]]

    parts = [SimpleNamespace(ids=[at] * (1 + at % 3)) for at in range(70)]
    outputs = predict.run(Session(), parts, 7)
    assert calls == sizes
    assert np.asarray(outputs)[:, 0].tolist() == [*range(70)]
    assert outputs.shape == (70, 3), "the last part is padded as the others"


@pytest.mark.parametrize(("way", "padding"), [("words", 0), ("windows", 3)])
def test_windows_are_filled_up_as_when_the_bundle_was_measured(tmp_path, monkeypatch, way, padding):
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"film": 1, "good": 2, "[PAD]": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="film"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    task = "token-classification" if way == "words" else "text-classification"
    files.write_program(tmp_path, task, "cpu")
    (tmp_path / "model.onnx").write_bytes(b"DynamicQuantize")  # padding changes its ranges
    config = {"id2label": {"0": "O", "1": "B-A"}, "splitter": "words"}
    files.write_json(tmp_path / "config.json", config)
    files.write_json(tmp_path / "signature.json", {"max_length": 4, way: True})
    files.write_json(tmp_path / "tokenizer_config.json", {"pad_token": "[PAD]"})
    rows = []

    class Session:
        def get_inputs(self):
            return [SimpleNamespace(name="input_ids")]

        def run(self, names, feed):
            rows.extend(feed["input_ids"].tolist())
            shape = (*feed["input_ids"].shape, 2) if way == "words" else (len(rows), 2)
            return [np.zeros(shape, np.float32)]

    spec = importlib.util.spec_from_file_location("predict", tmp_path / "predict.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load", lambda: (Session(), tokenizer))
    module.answer(["good good good good good"])
    assert rows == [[2, 2, 2, 2], [2, 2, 2, padding]]


def test_a_text_without_tokens_is_refused_in_one_line():
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"film": 0}, unk_token="film"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert predict.encoded(tokenizer, "", "a film").ids == [0, 0]
    for texts in ([" "], [" ", ""]):
        with pytest.raises(SystemExit, match=r"^the text ' ' has no tokens, so it cannot be answ"):
            predict.encoded(tokenizer, *texts)


@pytest.mark.parametrize(
    ("task", "recorded", "pairs", "said"),
    [
        ("text-classification", {"windows": True}, ["b"], "single texts in windows, not pairs"),
        ("token-classification", {"words": True}, ["b"], "single texts in words, not pairs"),
        ("text-classification", {"pairs": True}, None, "reads pairs of texts; give {"),
        ("text-classification", {"pairs": False}, ["b"], "single texts, not pairs of texts"),
    ],
)
def test_rows_that_the_bundle_cannot_read_are_refused_in_one_line(
    deployed, tmp_path, task, recorded, pairs, said
):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    files.write_program(there, task, "cpu")
    signature = json.loads((there / "signature.json").read_text())
    (there / "signature.json").write_text(json.dumps(signature | recorded))
    request = json.dumps({"texts": ["a"], "pairs": pairs})
    answer = subprocess.run(
        [sys.executable, "predict.py"],
        cwd=there,
        input=request,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (1, "")
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


TEXTS = b'give {"texts": [...], "pairs": [...] or null}; a text is a string'


@pytest.mark.parametrize(
    ("request_", "recorded", "said"),
    [
        (b"the film", {}, b"stdin is not JSON in UTF-8: "),
        (b"", {}, b"stdin is not JSON in UTF-8: "),
        (b'{"texts": ["caf\xe9"]}', {}, b"stdin is not JSON in UTF-8: "),
        (b"{}", {}, TEXTS),
        (b'["a"]', {}, TEXTS),
        (b'{"texts": null}', {}, TEXTS),
        (b'{"texts": "the film"}', {}, TEXTS),
        (b'{"texts": [1]}', {}, TEXTS),
        (b'{"texts": [["new", "york"]]}', {}, TEXTS),
        (b'{"texts": [["new", 1]]}', {"words": True}, TEXTS + b" or a list of words"),
        (b'{"texts": ["a"], "pairs": "b"}', {}, TEXTS),
        (b'{"texts": ["a"], "pairs": [["b"]]}', {"words": True}, TEXTS),
        (b'{"texts": ["a", "b"], "pairs": ["c"]}', {}, b"has 2 texts, 1 pairs"),
        (b'{"texts": ["\\ud800"]}', {}, b"a text is not valid Unicode"),
        (b'{"texts": [["a", "\\ud800"]]}', {"words": True}, b"a text is not valid Unicode"),
        (None, {}, b"a text is not valid Unicode"),
    ],
)
def test_a_request_of_another_form_ends_with_one_line(deployed, tmp_path, request_, recorded, said):
    shutil.copy(deployed[1] / "predict.py", tmp_path)
    (tmp_path / "signature.json").write_text(json.dumps(recorded))
    texts = [b"caf\xe9"] if request_ is None else []
    command = [sys.executable, "predict.py", *texts]
    answer = subprocess.run(command, cwd=tmp_path, input=request_, capture_output=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, b"")
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_bundle_that_records_left_answers_by_the_end_of_a_long_text(deployed, tmp_path):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    signature = json.loads((there / "signature.json").read_text())
    (there / "signature.json").write_text(json.dumps(signature | {"truncation_side": "left"}))
    texts = ["wonderful " * 100 + "dull " * 100, "dull " * 100]
    command = [sys.executable, "predict.py", *texts]
    answer = subprocess.run(command, cwd=there, capture_output=True, text=True, check=True)
    long, end = json.loads(answer.stdout)["predictions"]
    assert long == end


def test_a_bundle_for_vnni_refuses_a_cpu_without_it_and_says_what_to_do(deployed, tmp_path):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    signature = json.loads((there / "signature.json").read_text())
    (there / "signature.json").write_text(json.dumps(signature | {"isa": "vnni"}))
    code = (
        "import predict; predict.beside('predict_session.py').exact = lambda: False; "
        "predict.answer(['a text'])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=there, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "export it for a target without isa" in answer.stderr


@pytest.mark.parametrize(
    ("graph", "version", "refused"),
    [
        (b"..GatherBlockQuantized..", "1.26.0", True),
        (b"..GatherBlockQuantized..", "1.28.0.dev20261001", False),
        (b"..Gather..", "1.26.0", False),
    ],
)
def test_a_runtime_that_misreads_4_bit_embeddings_is_refused(monkeypatch, graph, version, refused):
    monkeypatch.setattr(onnxruntime, "__version__", version)
    said = f"onnxruntime {version} misreads this bundle's 4-bit embeddings; install a later one"
    with pytest.raises(SystemExit, match=said) if refused else contextlib.nullcontext():
        session_onnxruntime.check_version(lambda operator: operator in graph)


def test_the_answers_are_in_utf_8_whatever_the_locale(monkeypatch):
    answers = [{"text": "caf\u00e9 \u4e2d", "label": "\u2713"}]
    monkeypatch.setattr(predict, "answer", lambda *_: answers)
    monkeypatch.setattr(predict, "checked", lambda _request: (["a"], None))
    monkeypatch.setattr(sys, "argv", ["predict.py", "a"])
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    predict.main()
    sys.stdout.flush()
    assert json.loads(written.getvalue()) == {"predictions": answers}
    assert "caf\u00e9".encode() in written.getvalue()


def test_two_bundles_in_one_process_answer_each_by_its_own_files(deployed, tmp_path):
    modules = []
    for task in ("text-classification", "sentence-embeddings"):
        there = tmp_path / task
        shutil.copytree(deployed[1], there)
        files.write_program(there, task, "cpu")
        spec = importlib.util.spec_from_file_location("predict", there / "predict.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules.append(module)
    label, vector = (module.answer(["a text"])[0] for module in modules)
    assert (set(label), set(vector)) == ({"label", "probabilities"}, {"vector"})


def test_answering_writes_nothing_into_the_folder_of_a_bundle(deployed, tmp_path):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    before = {path.relative_to(there) for path in there.rglob("*")}
    command = [sys.executable, "predict.py", "a text"]
    subprocess.run(command, cwd=there, capture_output=True, check=True)
    assert {path.relative_to(there) for path in there.rglob("*")} == before
