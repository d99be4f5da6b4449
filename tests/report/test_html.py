from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from penstock.passes.core.program import Program
from penstock.report import Kernel, Report
from penstock.report.html import module_tree, timeline
from penstock.report.model import NodeInfo, TimelinePoint

VOID = {"meta", "input", "link", "br", "img", "hr"}


class Page(HTMLParser):
    """The page's elements, its visible text, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        links = [values[key] for key in ("src", "href", "action", "data") if values.get(key)]
        self.fetched += [link for link in links if not link.startswith("#")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture
def report(captured: Program, make_report: Callable[..., Report]) -> Report:
    kernels = [Kernel("fused_linear_add", (2, 4, 1), (64, 1, 1))]
    return make_report(captured, target="apple-a18-pro", memory_budget=1 << 16, kernels=kernels)


def test_the_page_stands_alone_and_is_well_formed(report: Report) -> None:
    page = Page(report.to_html())
    assert page.open == []
    assert page.fetched == []
    assert len(set(page.ids)) == len(page.ids)
    data, plotly, own = page.scripts
    assert "plotly.js v" in plotly[:200]
    assert 'getElementById("memory-timeline")' in own
    assert "memory-timeline" in page.ids
    assert json.loads(data)["name"] == [node.name for node in report.program.nodes]


def test_the_page_is_the_same_every_time(report: Report) -> None:
    assert report.to_html() == report.to_html()


def test_the_page_shows_what_the_report_holds(report: Report) -> None:
    text = Page(report.to_html()).text
    for expected in (
        "apple-a18-pro",
        "relu-as-clamp",
        "Write relu as a clamp.",
        "clamp_min(add, 0)",
        "fused_linear_add",
    ):
        assert expected in text
    assert "2 × 4 × 1" in text
    assert "it is fine <as> it is" in text
    assert "report/conftest.py:" in text


def test_text_from_the_model_cannot_become_markup(report: Report) -> None:
    hostile = "</script><script>alert(1)</script>"
    nodes = tuple(replace(node, name=hostile, module=hostile, call=hostile) for node in report.program.nodes)
    page = Page(replace(report, model=hostile, program=replace(report.program, nodes=nodes)).to_html())
    assert len(page.scripts) == 3
    assert hostile in page.text
    assert json.loads(page.scripts[0])["name"][0] == hostile


def test_a_report_without_passes_kernels_or_operators_has_a_page(report: Report) -> None:
    program = replace(report.program, nodes=(), timeline=(), peak=None, peak_tensors=(), by_operator=())
    text = Page(replace(report, program=program, passes=(), kernels=(), declined=(), target=None).to_html()).text
    assert "The graph holds no operator." in text
    assert "Kernels" not in text
    assert "Passes" not in text


def node(name: str, module: str, graph: str = "main") -> NodeInfo:
    return NodeInfo(graph, name, "add", f"{name}()", "f32[1]", 10, 100, module, "", "")


def test_the_tree_follows_the_modules_and_adds_up() -> None:
    root = module_tree([node("a", "down.0.conv"), node("b", "down.0"), node("c", "up.1.2.conv"), node("d", "")])
    assert (root.operators, root.flops, root.moved_bytes) == (4, 40, 400)
    assert [position for position, _ in root.nodes] == [3]
    down, up = root.children.values()
    assert (down.label, down.path, down.operators) == ("down.0", "down.0", 2)
    assert [child.label for child in down.children.values()] == ["conv"]
    assert (up.label, up.path) == ("up.1.2.conv", "up.1.2.conv")


def test_the_tree_keeps_graphs_apart() -> None:
    root = module_tree([node("a", "x", "encode"), node("b", "x", "decode")])
    assert [child.label for child in root.children.values()] == ["graph encode.x", "graph decode.x"]


def test_repeated_text_is_stored_once_in_the_timeline(report: Report) -> None:
    data = timeline(report)
    assert len(set(data["modules"])) == len(data["modules"]) < len(data["name"])
    assert [data["modules"][index] for index in data["module"]] == [node.module for node in report.program.nodes]
    assert data["left"] == (1 << 16) - report.program.totals.weight_bytes


def test_a_page_of_five_thousand_nodes_stays_under_ten_megabytes(report: Report) -> None:
    base = replace(report.program.nodes[0], source="models/unet_2d_blocks.py:1234 in forward")
    nodes = tuple(
        replace(
            base, name=f"scaled_dot_product_attention_{index}", module=f"up_blocks.{index % 4}.attentions.{index // 9}"
        )
        for index in range(5000)
    )
    points = tuple(TimelinePoint(index, 1000 * index) for index in range(5000))
    text = replace(report, program=replace(report.program, nodes=nodes, timeline=points, peak=4999)).to_html()
    assert len(text) < 10_000_000
    assert text.count('<tr id="node-4999">') == 1
