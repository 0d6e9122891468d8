"""What loads the Hub's form answers a bundle's sample request with its sample response."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.consumers import environments
from tests.consumers.page import Page

CLOSE = 1e-5
"""The response is rounded to six digits; what is left is the order of sums in another build."""
ROUNDED = 0.02
"""In a browser, other sums come before the rounding to int8, and some values round elsewhere: the
answers are as far from those of a CPU as both are from fp32."""


def sample(bundle: Path) -> tuple[list[str], list[Any]]:
    """Return a bundle's sample texts and its answers to them."""
    request, response = (
        json.loads((bundle / "samples" / f"{name}.json").read_text())
        for name in ("request", "response")
    )
    assert len(request["texts"]) == len(response["predictions"]) > 1
    return request["texts"], response["predictions"]


@pytest.fixture(scope="session")
def place(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Hub's form of the bundles, as the command writes it."""
    from click.testing import CliRunner

    from rarefy.flows.cli import cli

    folder = tmp_path_factory.mktemp("served")
    for name, bundle in made.items():
        home = bundle.parents[2]
        out = folder / f"{name}-hub"
        words = ["bundle", name, str(out), "--for", "hub", "--home", str(home)]
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    (folder / "node_modules").symlink_to(environments.node_modules())
    return folder


def check_classes(
    answers: list[list[dict[str, Any]]], expected: list[Any], close: float = CLOSE
) -> None:
    for given, wanted in zip(answers, expected, strict=True):
        assert given[0]["label"] == wanted["label"]
        scores = {each["label"]: each["score"] for each in given}
        assert scores == pytest.approx(wanted["probabilities"], abs=close)


def check_vectors(answers: list[list[float]], expected: list[Any]) -> None:
    for given, wanted in zip(answers, expected, strict=True):
        assert given == pytest.approx(wanted["vector"], abs=CLOSE)


def in_turn(code: str, texts: list[str], result: str) -> str:
    """Return a module that runs the page's code, which asks ``[text]``, for each text in turn."""
    imports = [line for line in code.splitlines() if line.strip().startswith("import ")]
    rest = [line for line in code.splitlines() if line not in imports]
    return "\n".join(
        [
            *imports,
            "const all = [];",
            f"for (const text of {json.dumps(texts)}) {{",
            *rest,
            f"all.push(...{result});",
            "}",
        ]
    )


def test_transformers_js_classifies_in_node(place: Path, page: Page, made: dict[str, Path]) -> None:
    texts, expected = sample(made["demo"])
    code = page.code("transformers.js", "js", "demo-hub", "[text]")
    script = in_turn(code, texts, "answers") + "\nconsole.log(JSON.stringify(all));\n"
    (place / "classify.mjs").write_text(script)
    check_classes(json.loads(environments.run(["node", "classify.mjs"], place)), expected)


def test_transformers_js_embeds_in_node(place: Path, page: Page, made: dict[str, Path]) -> None:
    texts, expected = sample(made["search"])
    code = page.code("transformers.js", "js", "search-hub", "[text]")
    script = in_turn(code, texts, "vectors.tolist()") + "\nconsole.log(JSON.stringify(all));\n"
    (place / "embed.mjs").write_text(script)
    check_vectors(json.loads(environments.run(["node", "embed.mjs"], place)), expected)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def served(place: Path) -> Iterator[str]:
    """The address of a server of the folder's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=place)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("name", "close"), [("demo", ROUNDED), ("float", CLOSE)])
def test_transformers_js_classifies_in_a_browser(
    place: Path, page: Page, made: dict[str, Path], served: str, name: str, close: float
) -> None:
    from playwright.sync_api import sync_playwright

    texts, expected = sample(made[name])
    html = page.code("transformers.js", "html", "demo-hub", "[text]")
    html = html.replace("demo-hub", f"{name}-hub")
    begin, end = '<script type="module">\n', "</script>"
    code = html.partition(begin)[2].partition(end)[0]
    script = in_turn(code, texts, "answers") + "\nwindow.answers = all;\n"
    (place / "index.html").write_text(f"<!doctype html>{begin}{script}{end}")
    elsewhere: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page()
        tab.on("request", lambda asked: elsewhere.append(asked.url))
        tab.goto(f"{served}/index.html")
        tab.wait_for_function("window.answers !== undefined", timeout=120_000)
        answers = tab.evaluate("window.answers")
        browser.close()
    check_classes(answers, expected, close)
    assert any(url.endswith(".wasm") for url in elsewhere)
    assert [url for url in elsewhere if not url.startswith((served, "blob:", "data:"))] == []


@pytest.mark.parametrize("tool", ["sentence-transformers", "fastembed"])
def test_a_python_library_embeds(place: Path, page: Page, made: dict[str, Path], tool: str) -> None:
    texts, expected = sample(made["search"])
    code = page.code(tool, "python", "search-hub", "[text]")
    asking = next(line for line in code.splitlines() if "[text]" in line)
    script = (
        code.replace(asking, "")
        + f"import json\nall = []\nfor text in {texts!r}:\n    {asking}\n"
        + "    all.extend(vector.tolist() for vector in vectors)\nprint(json.dumps(all))\n"
    )
    (place / f"ask_{tool}.py").write_text(script)
    python = environments.python(tool)
    said = environments.run([python, f"ask_{tool}.py"], place)
    check_vectors(json.loads(said.splitlines()[-1]), expected)
