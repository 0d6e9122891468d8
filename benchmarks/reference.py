"""Write the generated pages of docs/reference: recipe keys, metrics, stages and commands.

python -m benchmarks.reference
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from rarefy.pipeline.recipe import reference

FOLDER = Path(__file__).parents[1] / "docs/reference"
EXAMPLES = {
    "adapt": "- prune: {remove_heads: 25 %}\n- adapt: {teacher: finetune, epochs: 2}\n- merge",
    "augment": (
        "- augment: {spans: 6, splices: 1}\n"
        "- {label: {transfer: augment}, as: labels}\n"
        "- distill: {keep_layers: 3, transfer: labels}"
    ),
    "bag_of_tokens": (
        "- augment: {spans: 6, splices: 1}\n"
        "- {label: {transfer: augment}, as: labels}\n"
        "- bag_of_tokens\n"
        "- distill: {teacher: finetune, transfer: labels, epochs: 10}"
    ),
    "distill": "- distill: {keep_layers: 3, epochs: 6, learning_rate: 2e-4}",
    "export": "- quantize\n- export",
    "factorize": "- factorize: {keep_weights: 70 %}",
    "finetune": "- finetune: {epochs: 1}",
    "inject": "- inject: {facts: data/wordnet-facts/facts.tsv, batch_size: 64}\n- finetune",
    "label": (
        "- augment: {spans: 6, splices: 1}\n"
        "- {label: {transfer: augment}, as: labels}\n"
        "- distill: {keep_layers: 3, transfer: labels}"
    ),
    "merge": "- adapt: {teacher: finetune, epochs: 2}\n- merge",
    "profile": "- profile\n- prune: {speedup: 3x, table: profile}",
    "prune": "- prune: {remove_heads: 50 %, remove_neurons: 85 %}\n- distill: {keep_layers: 3}",
    "quantize": "- quantize: {mode: static, calibration: mse}",
    "validate": "- export\n- validate: {models: [finetune], seconds: 60}",
}
"""An excerpt of ``stages`` for each stage, to begin with."""
KEYS_HEAD = """# Recipe

This page is generated from the code. `rarefy recipe reference` prints it together with the
[metrics](metrics.md) and the [stages](stages/index.md). `rarefy recipe schema` prints the JSON
schema, with which editors complete and check recipes.

"""
METRICS_HEAD = """# Metrics

This page is generated from the code. It lists what a budget may bound, and in which forms. A
function of your own can also be a metric: see [Set budgets](../how-to/set-budgets.md).

"""
COMMANDS = """# Commands

This page is generated from `rarefy COMMAND --help`.

Every command takes `--json`, `--quiet` and `--verbose`, as well as `--home` where it reads or
writes runs. Data go to stdout, and progress goes to stderr. [Exit codes](exit-codes.md) lists what
a command ends with.

To complete commands, runs, tags and examples in a shell, add one of these lines to the file that
the shell reads at its start:

```bash
eval "$(_RAREFY_COMPLETE=bash_source rarefy)"   # ~/.bashrc
eval "$(_RAREFY_COMPLETE=zsh_source rarefy)"    # ~/.zshrc
_RAREFY_COMPLETE=fish_source rarefy | source    # ~/.config/fish/config.fish
```
"""
COMMON = {"--json", "--quiet", "--verbose", "--help", "--home"}


def main() -> None:
    for name, text in pages().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the text of each page by its path in ``docs/reference``."""
    texts = {}
    keys = "\n\n".join(reference.keys())
    texts["recipe.md"] = f"{KEYS_HEAD}{keys}\n"
    texts["metrics.md"] = f"{METRICS_HEAD}{reference.metrics_table()}\n"
    rows = []
    for name, section in reference.stage_sections().items():
        texts[f"stages/{name}.md"] = _stage_page(name, section)
        link = f"[`{name}`]({name}.md)"
        purpose = _first_sentence(section)
        rows.append((link, purpose))
    index = reference.table(("stage", "purpose"), rows)
    about = reference.STAGES.removeprefix("## ").strip()
    texts["stages/index.md"] = f"# {about}\n\n{index}\n"
    texts["commands.md"] = "\n".join([COMMANDS, *_commands()])
    return texts


def _first_sentence(section: str) -> str:
    """Return the first sentence of a section."""
    paragraphs = section.split("\n\n")
    first = paragraphs[1].replace("\n", " ")
    sentence, dot, _ = first.partition(". ")
    return sentence + dot.strip()


def _stage_page(name: str, section: str) -> str:
    """Return a stage's page: its section, with an example before the table of its keys."""
    text = section.replace("## ", "# ", 1).rstrip()
    prose, table, rows = text.partition("\n\n| key |")
    parts = [prose]
    if name in EXAMPLES:
        excerpt = textwrap.indent(EXAMPLES[name], "  ")
        parts.append(f"\n\n## Example\n\n```yaml\nstages:\n{excerpt}\n```")
    if table:
        parts.append(f"\n\n## Parameters{table}{rows}")
    parts.append("\n")
    return "".join(parts)


def _commands() -> Iterator[str]:
    """Yield a section for each command of the command line."""
    from rarefy.flows.cli import cli

    context = click.Context(cli, info_name="rarefy")
    for name in sorted(cli.list_commands(context)):
        command = cli.get_command(context, name)
        assert command is not None
        yield from _command(command, context, "##")


def _command(command: click.Command, above: click.Context, level: str) -> Iterator[str]:
    """Yield the section of a command, and of the commands below it."""
    context = click.Context(command, info_name=command.name, parent=above)
    if isinstance(command, click.Group):
        yield f"{level} `{context.command_path}`\n\n{_prose(command)}\n"
        for name in sorted(command.list_commands(context)):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, context, f"{level}#")
        return
    path = context.command_path
    pieces = command.collect_usage_pieces(context)
    usage = " ".join([path, *pieces])
    yield f"{level} `{path}`\n"
    yield f"```text\n{usage}\n```\n"
    yield f"{_prose(command)}\n"
    rows = list(_options(command))
    if rows:
        table = reference.table(("option", "description"), rows)
        yield f"{table}\n"


def _prose(command: click.Command) -> str:
    """Return a command's help with its lines unwrapped."""
    help_text = command.help or ""
    lines = []
    for paragraph in help_text.strip().split("\n\n"):
        words = paragraph.split()
        lines.append(" ".join(words))
    return "\n\n".join(lines)


def _options(command: click.Command) -> Iterator[tuple[str, str]]:
    """Yield the options of a command, without those of every command."""
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.hidden:
            continue
        if COMMON.intersection(parameter.opts):
            continue
        words = [", ".join(parameter.opts)]
        description = parameter.help or ""
        if not parameter.is_flag:
            words.append(_value(parameter))
            default = parameter.default
            if isinstance(default, str | int | float):
                description = f"{description} Default: `{default}`."
        name = " ".join(words)
        yield f"`{name}`", description


def _value(option: click.Option) -> str:
    """Return what stands for an option's value."""
    kind = option.type
    if isinstance(kind, click.Choice):
        return "|".join(map(str, kind.choices))
    if option.metavar:
        return option.metavar
    name = kind.name.upper()
    return name.removesuffix(" RANGE")


if __name__ == "__main__":
    main()
