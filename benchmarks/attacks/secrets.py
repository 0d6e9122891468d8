"""Credentials in URLs, wherever a URL may stand: none may be shown or written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.attacks import Attack, Change, nothing

SECRET = "hush77hush"
URLS = (
    "s3://AKIA123:hush77hush@bucket/store",
    "s3://:hush77hush@bucket/store",
    "https://hush77hush@host.invalid/store",
    "https://user:hush77hush@host.invalid:8080/store?a=1",
    "simplecache::s3://AKIA123:hush77hush@bucket/store",
    "https://bucket.host.invalid/store?X-Amz-Date=1&X-Amz-Signature=hush77hush",
    "https://host.invalid/x?sv=2022&se=2026&sig=hush77hush%3D",
    "https://host.invalid/store?token=hush77hush",
    "https://host.invalid/store?a=1&access_token=hush77hush",
    "https://host.invalid/store?api_key=hush77hush",
    "HTTPS://HUSHER:hush77hush@host.invalid/",
    "https:/user:hush77hush@host.invalid/store",
    "s3:///AKIA123:hush77hush@bucket/store",
    "abfss://container:hush77hush@account.dfs.core.windows.net/store",
)
LINES = (
    ("artifact", "push", "production", "URL"),
    ("artifact", "pull", "URL#production"),
    ("promote", "tiny", "production", "--store", "URL"),
    ("predict", "URL#production", "fine"),
    ("compare", "tiny", "URL#production"),
    ("rollback", "URL#production"),
    ("init", "new.yaml", "--model", "URL", "--train", "train.jsonl", "--yes"),
    ("init", "new.yaml", "--model", "model", "--train", "URL", "--yes"),
    ("plan", "URL"),
)
PLACES = ("model", "train", "eval", "against", "description", "stage")


def attacks(template: Path) -> Iterator[Attack]:
    """Yield the attacks; ``template``: the project that they will change copies of."""
    for url in URLS:
        for line in LINES:
            words = tuple(word.replace("URL", url) for word in line)
            name = f"{line[0]} {line[1]}: {url}"
            yield Attack(f"{name}: {line[2:3]}", nothing, words, (2, 5), SECRET)
        for place in PLACES:
            change = _recipe(place, url)
            yield Attack(f"{place}: {url}", change, ("plan", "tiny.yaml"), (2, 5), SECRET)


def _recipe(place: str, url: str) -> Change:
    """Return the change that writes a URL into one place of the recipe."""
    model = train = evaluated = stage = ""
    against = "finetune"
    if place == "model":
        model = url
    if place == "train":
        train = url
    if place == "eval":
        evaluated = url
    if place == "against":
        against = f"{url}#production"
    if place == "stage":
        stage = f"  - label: {{teacher: '{url}'}}\n"
    text = (
        f"name: tiny\nmodel: '{model or 'model'}'\n"
        f"data: {{train: '{train or 'train.jsonl'}', eval: '{evaluated or 'eval.jsonl'}'}}\n"
        f"stages:\n{stage}  - finetune: {{epochs: 1}}\n  - export\n  - validate\n"
        f"budgets:\n  - {{metric: accuracy, max_drop: 2 points, against: '{against}'}}\n"
    )
    if place == "description":
        text += f"description: '{url}'\n"

    def change(project: Path) -> None:
        (project / "tiny.yaml").write_text(text)

    return change
