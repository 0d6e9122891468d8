"""Render an HTML page from a template, with the style and filters that all pages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.report import wording
from pipeline.terms.outcomes import SYMBOL

FOLDER = Path(__file__).parent


def render(template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """Render a template of this folder; ``filters`` are those of this page alone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": Markup, "plural": wording.plural, **filters}
    css = Markup((FOLDER / "report.css").read_text())  # noqa: S704 (our own file)
    return environment.get_template(template).render(
        css=css, symbols=SYMBOL, wording=wording, **values
    )
