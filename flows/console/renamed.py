"""Commands and options that have another name since 0.1.0, with what to write instead."""

from __future__ import annotations

from typing import Final

RENAMED: Final = {
    "load": "`rarefy loadtest`",
    "promote --to": "`rarefy promote --store URL`",
    "rollback --to": "`rarefy rollback --artifact DIGEST`",
}
"""What to write, by a command's old name, or by the command and the old name of its option."""


def advise_instead(command: str, option: str | None = None) -> str | None:
    """Return an error text for a command or an option of one if it was renamed, else None."""
    name = command if option is None else f"{command} {option}"
    if name not in RENAMED:
        return None
    return f"`rarefy {name}` was renamed before 0.1.0: write {RENAMED[name]}"
