"""Which runtime each of the bundles that are measured together runs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.model.runtime import bundle_files


def providers(bundles: Mapping[str, Path], provider: str) -> dict[str, str]:
    """Return the provider of each bundle: of the candidate ``provider``, the target's.

    What it is compared with runs as it is deployed (``bundle_files.provider_beside``), so that a
    speed-up over ONNX Runtime in fp32 means the same on a target of OpenVINO's.
    """
    by_name = {}
    for name, directory in bundles.items():
        if name == CANDIDATE:
            by_name[name] = provider
        else:
            by_name[name] = bundle_files.provider_beside(directory, provider)
    return by_name
