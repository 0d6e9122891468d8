"""The lineage as an arc diagram: artifacts in order, each joined to what it was made from."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.report.figures.chart import INK, MONOSPACE, MUTED, OTHER, Chart, Font, fit
from pipeline.verdict.record import LineageNode

STEP = 34.0
NAME = Font(INK, 13, 500)
LAST_NAME = Font(INK, 13, 650)
ORIGIN = Font(MUTED, 11)
DIGEST = Font(MUTED, 11.5, None, MONOSPACE)


class _Edge(NamedTuple):
    """Two rows of the diagram, and what the child takes the parent as."""

    parent: int
    child: int
    role: str

    @property
    def rows(self) -> int:
        return self.child - self.parent


def lineage(nodes: list[LineageNode], width: int, name: str) -> str:
    """Return the diagram. The edge to the artifact directly above is straight, others are arcs."""
    edges = _edges(nodes)
    farthest = max((edge.rows for edge in edges), default=1)
    rail = 12.0
    if farthest > 1:
        rail += min(14.0 * farthest, 70.0)
    chart = Chart(name, width, STEP * len(nodes) + 4, "Lineage of the artifacts")
    for edge in edges:
        child, parent = nodes[edge.child].id, nodes[edge.parent].id
        with chart.tooltip(f"{child} takes {parent} as {edge.role}"):
            _draw_edge(chart, edge, rail, farthest)
        chart.descriptions.append(f"{child} from {parent} as {edge.role}")
    room = width - rail - 116
    for index, node in enumerate(nodes):
        y = STEP * (index + 0.5)
        last = index == len(nodes) - 1
        origin = f"{node.stage} v{node.version} · {node.kind}"
        chart.dot(rail, y, last)
        chart.text(rail + 16, y - 5, fit(node.id, room, 13), LAST_NAME if last else NAME)
        chart.text(rail + 16, y + 8, fit(origin, room, 11), ORIGIN)
        chart.text(width - 4, y, node.digest[:12], DIGEST, "end")
    return chart.svg()


def _edges(nodes: list[LineageNode]) -> list[_Edge]:
    """Return the edges between the nodes; parents from elsewhere have none."""
    places = {node.digest: index for index, node in enumerate(nodes)}
    edges = []
    for child, node in enumerate(nodes):
        for digest, role in node.parents.items():
            if digest in places:
                edges.append(_Edge(places[digest], child, role))
    return edges


def _draw_edge(chart: Chart, edge: _Edge, rail: float, farthest: int) -> None:
    start = STEP * (edge.parent + 0.5)
    end = STEP * (edge.child + 0.5)
    if edge.rows == 1:
        chart.line((rail, start), (rail, end), OTHER, 2)
        return
    reach = (rail - 4) * 1.3 * edge.rows / farthest
    bend = rail - reach
    commands = f"M{rail:g} {start:g}C{bend:g} {start:g} {bend:g} {end:g} {rail:g} {end:g}"
    chart.path(commands, OTHER, 1.5, "4 3")
