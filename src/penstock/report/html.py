"""The report as one self-contained page: everything inlined, nothing fetched, the same bytes for the same report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from penstock.passes.core.sizes import format_size
from penstock.report.figures import format_change, format_count, format_flops
from penstock.report.model import NodeInfo, Report

_PAGE = Path(__file__).parent / "page"


def render(report: Report) -> str:
    """The page for one report."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(size=format_size, flops=format_flops, count=format_count)
    return environment.get_template("report.html.j2").render(
        report=report,
        change=format_change,
        tree=module_tree(report.program.nodes),
        timeline=timeline(report),
        plotly_js=get_plotlyjs(),
        diff_class=diff_class,
    )


@dataclass
class Branch:
    """One module of the graph's tree.

    Attributes:
        label: the part of the path below the parent, ``down_blocks.0`` where modules in between hold nothing.
        path: the whole dotted path.
        nodes: the module's own nodes with their positions in the graph.
        children: the modules below, in order of first use.
        operators: nodes here and below; `flops` and `moved_bytes` likewise.
    """

    label: str
    path: str
    nodes: list[tuple[int, NodeInfo]] = field(default_factory=list)
    children: dict[str, Branch] = field(default_factory=dict)
    operators: int = 0
    flops: int = 0
    moved_bytes: int = 0


def module_tree(nodes: Sequence[NodeInfo]) -> Branch:
    """Sort nodes into the tree of the modules that made them, below their graph where there are several graphs."""
    root = Branch("the model", "")
    several = len({node.graph for node in nodes}) > 1
    for position, node in enumerate(nodes):
        branch = root
        _add(branch, node)
        parts = node.module.split(".") if node.module else []
        for part in [f"graph {node.graph}", *parts] if several else parts:
            path = f"{branch.path}.{part}" if branch.path else part
            branch = branch.children.setdefault(part, Branch(part, path))
            _add(branch, node)
        branch.nodes.append((position, node))
    _join_chains(root)
    return root


def _add(branch: Branch, node: NodeInfo) -> None:
    branch.operators += 1
    branch.flops += node.flops
    branch.moved_bytes += node.moved_bytes


def _join_chains(branch: Branch) -> None:
    """Show ``a`` that holds nothing but ``b`` as one branch ``a.b``."""
    for key, child in branch.children.items():
        while not child.nodes and len(child.children) == 1:
            (only,) = child.children.values()
            only.label = f"{child.label}.{only.label}"
            child = only
        branch.children[key] = child
        _join_chains(child)


def timeline(report: Report) -> dict[str, Any]:
    """What the memory plot needs; text that repeats from node to node is stored once."""
    points = report.program.timeline
    nodes = report.program.nodes
    modules, module = _indexed([node.module for node in nodes])
    sources, source = _indexed([node.source for node in nodes])
    return {
        "live": [point.live_bytes for point in points],
        "node": [point.node for point in points],
        "name": [node.name for node in nodes],
        "op": [node.op for node in nodes],
        "modules": modules,
        "module": module,
        "sources": sources,
        "source": source,
        "captured": list(report.captured_live_bytes) if report.passes else [],
        "left": None if report.memory_budget is None else report.memory_budget - report.program.totals.weight_bytes,
    }


def _indexed(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    positions: dict[str, int] = {}
    indices = [positions.setdefault(text, len(positions)) for text in texts]
    return list(positions), indices


def diff_class(line: str) -> str:
    """How to colour one line of a unified difference."""
    return {"+": "added", "-": "removed", "@": "hunk"}.get(line[:1], "")
