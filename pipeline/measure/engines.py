"""Which runtime each of the bundles that are measured together runs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.measure.measurements import CANDIDATE
from pipeline.model import own_provider


def providers(bundles: Mapping[str, Path], provider: str) -> dict[str, str]:
    """Return the provider of each bundle: of the candidate ``provider``, the target's.

    What it is compared with runs as it is deployed (``own_provider.beside``), so that a speed-up
    over ONNX Runtime in fp32 means the same on a target of OpenVINO's.
    """
    by_name = {}
    for name, directory in bundles.items():
        if name == CANDIDATE:
            by_name[name] = provider
        else:
            by_name[name] = own_provider.beside(directory, provider)
    return by_name
