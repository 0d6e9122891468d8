"""GitHub's annotations, parsed as its runner parses them."""

from __future__ import annotations

from rarefy.pipeline.report.ci import annotations
from rarefy.pipeline.terms.budget import Budget
from tests.pipeline.report.ci.budgets import HOSTILE, ten


def parsed(command: str) -> tuple[str, dict[str, str], str]:
    """Parse a workflow command as the runner does."""
    head, _, message = command.removeprefix("::").partition("::")
    level, _, rest = head.partition(" ")
    properties = dict(pair.split("=", 1) for pair in rest.split(","))

    def plain(text: str) -> str:
        for code, sign in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            text = text.replace(code, sign)
        return text

    return level, {k: plain(v) for k, v in properties.items()}, plain(message)


def test_each_budget_that_is_not_kept_is_shown_at_its_line() -> None:
    lines = [
        (Budget.model_validate({"metric": "memory", "max": "1 GB"}), 12),
        (Budget.model_validate({"metric": "latency_p99", "max": "1.6 ms"}), 14),
    ]
    commands = [parsed(c) for c in annotations.render(ten(), True, "models/a.yaml", lines)]
    assert [level for level, *_ in commands] == ["error"] * 5 + ["warning"] * 2
    at = {
        properties["title"].split(": ")[1]: properties.get("line") for _, properties, _ in commands
    }
    assert (at["memory max"], at["latency_p99 max on cpu-all"]) == ("12", "14")
    assert at["macro_f1 min"] is None
    assert {properties["file"] for _, properties, _ in commands} == {"models/a.yaml"}
    lenient = [parsed(c)[0] for c in annotations.render(ten(), False, "models/a.yaml", lines)]
    assert lenient == ["error"] * 3 + ["warning"] * 4


def test_an_annotation_is_one_line_and_says_what_was_said() -> None:
    text = "50 % of a, b: c\nand d"
    command = annotations.command("error", text, "a,b:c.yaml", 3, text)
    assert "\n" not in command
    assert parsed(command) == ("error", {"file": "a,b:c.yaml", "line": "3", "title": text}, text)
    hostile = annotations.command("error", HOSTILE, HOSTILE, None, HOSTILE)
    assert len(hostile.splitlines()) == 1
    hostile.encode()
