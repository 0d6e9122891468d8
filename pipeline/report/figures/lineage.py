"""The lineage as an arc diagram: artifacts in order, each joined to what it was made from."""

from __future__ import annotations

from pipeline.report.figures import svg
from pipeline.report.figures.svg import PAGE
from pipeline.verdict.record import LineageNode

STEP = 34.0


def lineage(nodes: list[LineageNode], width: int, name: str) -> str:
    """Return the diagram. The edge to the artifact directly above is straight, others are arcs."""
    places = {node.digest: index for index, node in enumerate(nodes)}
    edges = [
        (places[parent], child, role)
        for child, node in enumerate(nodes)
        for parent, role in node.parents.items()
        if parent in places
    ]
    farthest = max([child - parent for parent, child, _ in edges] + [1])
    rail = 12.0 + (0 if farthest < 2 else min(14.0 * farthest, 70.0))
    height = STEP * len(nodes) + 4
    parts = [_edge(edge, nodes, rail, farthest) for edge in edges]
    for index, node in enumerate(nodes):
        y = _y(index)
        last = index == len(nodes) - 1
        parts.append(svg.mark(rail, y, last))
        parts.append(_words(node, rail + 16, y, width, last))
    description = "; ".join(
        f"{nodes[child].id} from {nodes[parent].id} as {role}" for parent, child, role in edges
    )
    return svg.document(
        name, width, height, "Lineage of the artifacts", description, "".join(parts)
    )


def _y(index: int) -> float:
    return STEP * (index + 0.5)


def _edge(
    edge: tuple[int, int, str],
    nodes: list[LineageNode],
    rail: float,
    farthest: int,
) -> str:
    parent, child, role = edge
    start, end = _y(parent), _y(child)
    tooltip = f"{nodes[child].id} takes {nodes[parent].id} as {role}"
    if child - parent == 1:
        return svg.group(tooltip, svg.line(rail, start, rail, end, PAGE.other, 2))
    out = rail - (rail - 4) * min(1.0, (child - parent) / farthest) * 1.3
    curve = (
        f"M{rail:.1f} {start:.1f}C{out:.1f} {start:.1f} {out:.1f} {end:.1f} {rail:.1f} {end:.1f}"
    )
    return svg.group(tooltip, svg.path(curve, PAGE.other, 1.5, "4 3"))


def _words(node: LineageNode, x: float, y: float, width: int, last: bool) -> str:
    digest = node.digest[:12]
    room = width - x - 100
    name = svg.fit(node.id, room, 13)
    below = svg.fit(f"{node.stage} v{node.version} · {node.kind}", room, 11)
    mono = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"
    return (
        svg.text(x, y - 1, name, PAGE.ink, size=13, weight=650 if last else 500)
        + svg.text(x, y + 12, below, PAGE.muted, size=11)
        + f'<g font-family="{mono}">'
        + svg.text(width - 4, y + 4, digest, PAGE.muted, size=11.5, anchor="end")
        + "</g>"
    )
