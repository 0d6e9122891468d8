"""The parts of each architecture; a family is one file with its table, and a line here."""

from __future__ import annotations

from rarefy.pipeline.model.architectures import bert, deberta, distilbert, modernbert, mpnet
from rarefy.pipeline.model.architectures.description import Architecture

ARCHITECTURES: dict[str, Architecture] = {
    **bert.FAMILIES,
    **distilbert.FAMILIES,
    **mpnet.FAMILIES,
    **deberta.FAMILIES,
    **modernbert.FAMILIES,
}
"""The description of each family, by ``model_type`` in config.json."""
