"""What is installed for an optional part of rarefy: the packages that its extra names."""

from __future__ import annotations

import importlib.metadata
import shlex

from packaging.requirements import Requirement


def remedy(extra: str) -> str:
    """Return the command that installs the packages of an extra, by rarefy's own metadata.

    They are named themselves: rarefy may have been installed from a folder, where no index has it.
    """
    words = ["pip", "install"]
    for text in importlib.metadata.requires("rarefy") or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if (
            marker is None
            or marker.evaluate({"extra": ""})
            or not marker.evaluate({"extra": extra})
        ):
            continue
        requirement.marker = None
        words.append(str(requirement))
    return shlex.join(words)
