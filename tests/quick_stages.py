"""Quick stages for tests, which log each time they really run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from pipeline.stage import Context, Draft, Policy, Stage
from pipeline.store.artifact import Artifact, Kind, Metric


def write_down(context: Context, word: str) -> None:
    with (context.base / "ran.log").open("a") as log:
        log.write(f"{word}\n")


class Word(Stage):
    """Write a word to a file; the artifact is not scored."""

    name: ClassVar[str] = "word"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.REPORT})
    produces: ClassVar[Kind | None] = Kind.REPORT
    reads: ClassVar[frozenset[str]] = frozenset()

    word: str = "hello"
    seconds: float = 0.0
    fail: bool = False
    metric: float = 1.0
    lasts: bool = True

    def run(self, context: Context, model: Artifact) -> Draft:
        write_down(context, self.word)
        (context.work / "progress").write_text(self.word)
        (context.output / "word.txt").write_text(self.word)
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            time.sleep(0.01)
        if self.fail:
            raise ZeroDivisionError("a bug\nwith a long story")
        return Draft(metrics=(Metric(name="letters", value=self.metric),), lasts=self.lasts)


class Count(Word):
    """Count the training rows."""

    name: ClassVar[str] = "count"
    reads: ClassVar[frozenset[str]] = frozenset({"train"})

    def run(self, context: Context, model: Artifact) -> Draft:
        write_down(context, self.name)
        (context.output / "rows.txt").write_text(str(len(context.split("train"))))
        return Draft()


class Peek(Word):
    """Read a split that it does not declare."""

    name: ClassVar[str] = "peek"

    def run(self, context: Context, model: Artifact) -> Draft:
        (context.output / "rows.txt").write_text(str(len(context.split("eval"))))
        return Draft()


class Listen(Word):
    """Use another step's word, and a file beside the recipe."""

    name: ClassVar[str] = "listen"
    to: str
    file: str = "model/config.json"

    def references(self) -> dict[str, str]:
        return {"speaker": self.to}

    def files(self, base: Path) -> tuple[Path, ...]:
        return (base / self.file,)

    def run(self, context: Context, model: Artifact) -> Draft:
        write_down(context, self.name)
        heard = context.artifacts[self.to].path("word.txt").read_text()
        (context.output / "word.txt").write_text(f"{heard} {sorted(context.artifacts)}")
        return Draft()


class Alone(Word):
    """Write down the input, which it does not read."""

    name: ClassVar[str] = "alone"
    policy: ClassVar[Policy] = Policy(aside=True, reads_input=False)

    def run(self, context: Context, model: Artifact) -> Draft:
        (context.output / "word.txt").write_text(f"{model} {sorted(context.artifacts)}")
        return Draft()


class Link(Word):
    """Write a symbolic link instead of a file."""

    name: ClassVar[str] = "link"

    def run(self, context: Context, model: Artifact) -> Draft:
        (context.output / "link").symlink_to(model.directory)
        return Draft()


class Nothing(Word):
    """Write no files."""

    name: ClassVar[str] = "nothing"

    def run(self, context: Context, model: Artifact) -> Draft:
        return Draft()


class Head(Stage):
    """Add a new head; ``fill`` is about its bias, e.g. NaN as after training that diverged."""

    name: ClassVar[str] = "head"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    fill: str = "0"

    def run(self, context: Context, model: Artifact) -> Draft:
        import torch

        from pipeline.model import checkpoint

        write_down(context, self.name)
        torch.manual_seed(context.seed)
        network = context.task.head.load(str(model.directory))
        with torch.no_grad():
            bias = network.classifier.bias
            bias.copy_(float(self.fill) + 0.01 * torch.arange(len(bias)))
        tokenizer = checkpoint.load_tokenizer(model.directory)
        roles = checkpoint.save(network, tokenizer, context.output)
        return Draft(roles, checkpoint.describe(network))
