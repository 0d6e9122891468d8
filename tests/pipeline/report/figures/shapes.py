"""Helpers that extract shapes and titles from a figure."""

from __future__ import annotations

from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"


def tooltips(figure: str) -> list[str]:
    """Return the titles of a figure's groups; raise an error if it is not well-formed."""
    groups = ElementTree.fromstring(figure).iter(f"{SVG}g")
    return [title.text or "" for group in groups for title in group.findall(f"{SVG}title")]


def shapes(figure: str, tag: str, **attributes: str) -> list[ElementTree.Element]:
    """Return the shapes of a kind that have these attributes."""
    return [
        node
        for node in ElementTree.fromstring(figure).iter(f"{SVG}{tag}")
        if all(node.get(name.replace("_", "-")) == value for name, value in attributes.items())
    ]
