"""The bundle's own predict.py."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from rarefy.exporters.bundle import files, predict, session_onnxruntime

PAGE = Path(__file__).parents[3] / "docs/how-to/serve.md"


def copy(bundle, folder, recorded=None):
    """Copy a bundle, record more in its signature, and return its new folder."""
    there = folder / "elsewhere"
    shutil.copytree(bundle, there)
    signature = json.loads((there / "signature.json").read_text())
    (there / "signature.json").write_text(json.dumps(signature | (recorded or {})))
    return there


def program(folder):
    """Return a bundle's program as a module, which is not found by its name."""
    spec = importlib.util.spec_from_file_location("predict", folder / "predict.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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

        def get_inputs(self):
            return []

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("libcudnn loaded"))
    program(there).Model()
    assert asked == {"providers": providers, "provider_options": options, "enable_fallback": 0}
    assert capsys.readouterr() == ("", "libcudnn loaded\n")


class Recorder:
    """A session that keeps the input ids of its calls, and answers each window with its first."""

    def __init__(self, columns=1):
        self.columns = columns
        self.calls = []

    def run(self, names, feed):
        ids = feed["input_ids"]
        self.calls.append(ids)
        return [np.repeat(ids[:, :1], self.columns, axis=1).astype(np.float32)]


@pytest.fixture
def windowed(tmp_path):
    """Return a function that loads a bundle of some task whose windows have four tokens."""

    def load(task="regression", graph=b"Gemm", **recorded):
        files.write_program(tmp_path, task, "cpu")
        write_tokenizer(tmp_path / "tokenizer.json")
        (tmp_path / "model.onnx").write_bytes(graph)
        config = {"id2label": {"0": "O", "1": "B-A"}, "splitter": "words"}
        files.write_json(tmp_path / "config.json", config)
        files.write_json(tmp_path / "signature.json", {"max_length": 4, **recorded})
        files.write_json(tmp_path / "tokenizer_config.json", {"pad_token": "[PAD]"})
        session = "def open_session(folder):\n    return SESSION\n"
        (tmp_path / "predict_session.py").write_text(f"{STAND_IN}\n{session}")
        model = program(tmp_path).Model()
        model.inputs = ["input_ids"]
        model.session = Recorder(columns=2 if recorded.get("words") else 1)
        return model

    return load


STAND_IN = """
class SESSION:
    def get_inputs():
        return []
"""


def write_tokenizer(path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"film": 1, "good": 2, "[PAD]": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="film"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


@pytest.mark.parametrize(("graph", "sizes"), [(b"Gemm", [32, 32, 6]), (b"DynamicQuantize", [70])])
def test_a_text_of_many_windows_runs_in_parts_unless_they_interact(windowed, graph, sizes):
    model = windowed(graph=graph, windows=True)
    words = ["film", "good"] * 71  # each window has two more words than the one before
    prediction = model(" ".join(words[:141]))
    assert [len(ids) for ids in model.session.calls] == sizes
    together = np.concatenate(model.session.calls)
    assert together.shape == (70, 4), "the last part is padded as the others"
    assert together[-1].tolist() == [1, 2, 1, 3]
    assert prediction == {"score": 1.0}, "the mean of the windows"


@pytest.mark.parametrize(("way", "padding"), [("words", 0), ("windows", 3)])
def test_windows_are_filled_up_as_when_the_bundle_was_measured(windowed, way, padding):
    task = "token-classification" if way == "words" else "text-classification"
    model = windowed(task, graph=b"DynamicQuantize", **{way: True})  # padding changes its ranges
    model.session.columns = 2
    model.session.run = tokenwise(model.session) if way == "words" else model.session.run
    model("good good good good good")
    (rows,) = model.session.calls
    assert rows.tolist() == [[2, 2, 2, 2], [2, 2, 2, padding]]


def tokenwise(session):
    """Return a call of a session that answers each token with zeros."""

    def run(names, feed):
        session.calls.append(feed["input_ids"])
        return [np.zeros((*feed["input_ids"].shape, 2), np.float32)]

    return run


def test_a_text_without_tokens_is_refused(windowed):
    model = windowed(pairs=True)
    assert model("", "a film") == {"score": 1.0}
    for row in ((" ", " "), (" ", "")):
        with pytest.raises(ValueError, match=r"^the text ' ' has no tokens, so there is"):
            model(*row)


@pytest.mark.parametrize(
    ("task", "recorded", "pairs", "said"),
    [
        ("text-classification", {"windows": True}, ["b"], "single texts in windows, not pairs"),
        ("token-classification", {"words": True}, ["b"], "single texts in words, not pairs"),
        ("text-classification", {"pairs": True}, None, "reads pairs of texts: model(text, pair)"),
        ("text-classification", {"pairs": False}, ["b"], "single texts, not pairs of texts"),
    ],
)
def test_rows_that_the_bundle_cannot_read_are_refused_in_one_line(
    deployed, tmp_path, task, recorded, pairs, said
):
    there = copy(deployed[1], tmp_path, recorded)
    files.write_program(there, task, "cpu")
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


FORM = b'give {"texts": [...], "pairs": [...] or null}'
TEXT = b"a text is a string, not "
WORDS = {"words": True}
PAIRS = {"pairs": True}


@pytest.mark.parametrize(
    ("request_", "recorded", "said"),
    [
        (b"the film", {}, b"stdin is not JSON in UTF-8: "),
        (b"", {}, b"stdin is not JSON in UTF-8: "),
        (b'{"texts": ["caf\xe9"]}', {}, b"stdin is not JSON in UTF-8: "),
        (b"{}", {}, FORM),
        (b'["a"]', {}, FORM),
        (b'{"texts": null}', {}, FORM),
        (b'{"texts": "the film"}', {}, FORM),
        (b'{"texts": ["a"], "pairs": "b"}', {}, FORM),
        (b'{"texts": [1]}', {}, TEXT + b"1"),
        (b'{"texts": [["new", "york"]]}', {}, TEXT + b"['new', 'york']"),
        (b'{"texts": [["new", 1]]}', WORDS, b"a text is a string or a list of words, not 1"),
        (b'{"texts": [["new", "york state"]]}', WORDS, b"'york state' is not a word"),
        (b'{"texts": ["a"], "pairs": [["b"]]}', PAIRS, TEXT + b"['b']"),
        (b'{"texts": ["a", "b"], "pairs": ["c"]}', PAIRS, b"there are 2 texts, 1 pairs"),
        (b'{"texts": ["\\ud800"]}', {}, b"a text is not valid Unicode"),
        (b'{"texts": [["a", "\\ud800"]]}', WORDS, b"a text is not valid Unicode"),
        (None, {}, b"a text is not valid Unicode"),
    ],
)
def test_a_request_of_another_form_ends_with_one_line(deployed, tmp_path, request_, recorded, said):
    there = copy(deployed[1], tmp_path, recorded)
    if "words" in recorded:
        files.write_program(there, "token-classification", "cpu")
    texts = [b"caf\xe9"] if request_ is None else []
    command = [sys.executable, "predict.py", *texts]
    answer = subprocess.run(command, cwd=there, input=request_, capture_output=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, b"")
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("argument", "code", "said"),
    [
        (
            "signature.json",
            1,
            'signature.json is a file, not a text; on stdin, give {"texts": [...]',
        ),
        ("--help", 0, '``python predict.py "some text"`` prints JSON.'),
    ],
)
def test_an_argument_that_is_no_text_is_not_classified(deployed, argument, code, said):
    command = [sys.executable, "predict.py", argument]
    answer = subprocess.run(command, cwd=deployed[1], capture_output=True, text=True, check=False)
    assert answer.returncode == code
    assert said in (answer.stderr if code else answer.stdout)
    assert '"predictions"' not in answer.stdout


@pytest.mark.parametrize("texts", [None, 3, {"texts": ["a"]}, np.array(["a"])])
def test_what_is_no_text_and_no_list_of_texts_is_refused(deployed, texts):
    with pytest.raises(ValueError, match=r"^give a text or a list of texts, not "):
        predict.Model(deployed[1])(texts)


def test_a_text_has_a_prediction_and_a_list_has_a_list(deployed):
    model = predict.Model(deployed[1])
    one = model("A film of rare warmth.")
    assert set(one) == {"label", "probabilities"}
    assert model(["A film of rare warmth.", "Dull."]) == [one, model("Dull.")]
    assert model(("Dull.",)) == [model("Dull.")]
    assert model([]) == []


def test_a_pair_has_a_prediction_and_lists_of_pairs_have_a_list(deployed, tmp_path):
    model = predict.Model(copy(deployed[1], tmp_path, PAIRS))
    one = model("What is it?", "A film.")
    assert model(["What is it?", "A film."], ["A film.", "Dull."])[0] == one
    assert one != model("What is it?", "Dull.")


def test_a_model_reads_its_files_once(deployed, tmp_path):
    there = copy(deployed[1], tmp_path)
    model = predict.Model(there)
    expected = model("Dull.")
    shutil.rmtree(there)
    assert model("Dull.") == expected


def test_threads_that_share_a_model_get_their_own_predictions(deployed):
    model = predict.Model(deployed[1])
    texts = [f"{'very ' * (number % 7)}good {number}" for number in range(40)]
    expected = model(texts)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(model, texts)) == expected


def test_a_bundle_that_records_left_answers_by_the_end_of_a_long_text(deployed, tmp_path):
    there = copy(deployed[1], tmp_path, {"truncation_side": "left"})
    texts = ["wonderful " * 100 + "dull " * 100, "dull " * 100]
    command = [sys.executable, "predict.py", *texts]
    answer = subprocess.run(command, cwd=there, capture_output=True, text=True, check=True)
    long, end = json.loads(answer.stdout)["predictions"]
    assert long == end


def test_a_bundle_for_vnni_refuses_a_cpu_without_it_and_says_what_to_do(deployed, tmp_path):
    there = copy(deployed[1], tmp_path, {"isa": "vnni"})
    session = there / "predict_session.py"
    session.write_text(f"{session.read_text()}\n\ndef exact():\n    return False\n")
    with pytest.raises(RuntimeError, match="export it for a target without isa"):
        program(there).Model()
    command = [sys.executable, "predict.py", "a text"]
    answer = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "export it for a target without isa" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("least", "version", "refused"),
    [
        ("1.28", "1.26.0", True),
        ("1.28", "1.28.0.dev20261001", False),
        ("1.23", "1.22.1", True),
        ("1.23", "1.23.0", False),
        ("1.23", "2.0.0", False),
    ],
)
def test_a_runtime_that_is_too_old_for_the_graph_is_refused(monkeypatch, least, version, refused):
    runtime = SimpleNamespace(__version__=version)
    monkeypatch.setattr(session_onnxruntime, "onnxruntime", runtime)
    said = f"onnxruntime {version} cannot load this bundle, or misreads it: it needs {least}"
    with pytest.raises(RuntimeError, match=said) if refused else contextlib.nullcontext():
        session_onnxruntime.check_version({"least_onnxruntime": least})


def test_the_bundle_and_its_card_name_the_runtime_that_they_need(deployed):
    signature = json.loads((deployed[1] / "signature.json").read_text())
    assert signature["least_onnxruntime"] == "1.23"
    assert "| ONNX Runtime | 1.23 or later |" in (deployed[1] / "README.md").read_text()


def test_the_answers_are_in_utf_8_whatever_the_locale(monkeypatch):
    answers = [{"text": "caf\u00e9 \u4e2d", "label": "\u2713"}]
    monkeypatch.setattr(predict, "Model", lambda: lambda texts, pairs: answers)
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
        there = copy(deployed[1], tmp_path / task)
        files.write_program(there, task, "cpu")
        modules.append(program(there))
    label, vector = (module.Model()("a text") for module in modules)
    assert (set(label), set(vector)) == ({"label", "probabilities"}, {"vector"})


def test_answering_writes_nothing_into_the_folder_of_a_bundle(deployed, tmp_path):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    before = {path.relative_to(there) for path in there.rglob("*")}
    command = [sys.executable, "predict.py", "a text"]
    subprocess.run(command, cwd=there, capture_output=True, check=True)
    assert {path.relative_to(there) for path in there.rglob("*")} == before


@pytest.fixture
def service(deployed, tmp_path, monkeypatch):
    """Return a function that starts the service of docs/how-to/serve.md beside a bundle."""
    from fastapi.testclient import TestClient

    (code,) = re.findall(r"^```python\n(from bundle.*?)^```", PAGE.read_text(), re.DOTALL | re.M)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("bundle.predict", "bundle"):
        monkeypatch.setitem(sys.modules, name, None)  # so that it is taken away afterwards
        del sys.modules[name]

    def start(**recorded):
        copy(deployed[1], tmp_path, recorded).rename(tmp_path / "bundle")
        names = {}
        exec(code, names)
        return TestClient(names["app"])

    return start


def test_the_page_s_service_answers_as_the_sample(service, deployed):
    client = service()
    request = json.loads((deployed[1] / "samples/request.json").read_text())
    response = json.loads((deployed[1] / "samples/response.json").read_text())
    answer = client.post("/predict", json=request["texts"])
    assert (answer.status_code, answer.json()) == (200, response["predictions"])


def test_the_page_s_service_refuses_what_the_bundle_cannot_read(service):
    answer = service(pairs=True).post("/predict", json=["a text"])
    assert answer.status_code == 422
    assert "this bundle reads pairs of texts" in answer.json()["detail"]
