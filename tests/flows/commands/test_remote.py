"""``rarefy artifact push`` and ``pull``."""

from __future__ import annotations

import json
from pathlib import Path

from rarefy.pipeline.store.store import Store
from tests.desk import Desk


def test_push_and_pull_from_the_command_line(desk: Desk, tmp_path: Path) -> None:
    url, home = f"file://{tmp_path}/shared", tmp_path / "elsewhere"
    pushed = desk.rarefy("artifact", "push", desk.digest[:8], url, "--tag", "production", "--json")
    sent = json.loads(pushed.out)
    assert (sent["digest"], sent["tag"]) == (desk.digest, "production")
    again = json.loads(desk.rarefy("artifact", "push", desk.digest, url, "--json").out)
    assert (sent["bytes"] > 10_000, again["bytes"]) == (True, 0)
    text = "a fine film"
    here = desk.rarefy("predict", desk.digest, text).out
    there = desk.rarefy("predict", f"{url}#production", text, "--home", home)
    assert (there.code, there.out) == (0, here)
    address = f"{url}#{desk.digest[:8]}"
    pulled = desk.rarefy("artifact", "pull", address, "--tag", "production", "--home", home)
    assert pulled.out == f"{desk.digest} (bundle), production\n"
    assert Store(home / "store").tags() == {"production": desk.digest}
    for arguments, words in {
        ("pull", url): "expected URL#TAG",
        ("pull", f"{url}#nosuch"): "no tag 'nosuch'",
        ("push", "nosuch", url): "no such artifact or tag",
        ("push", desk.digest, f"{url}#production"): f"URL without a tag, e.g. {url};",
        ("push", desk.digest, f"file://{tmp_path}/not/there"): "no such bucket or folder",
    }.items():
        said = desk.rarefy("artifact", *arguments)
        assert said.code == 2
        assert words in said.err
