"""A pass of your own, in your own file: linear layers that read the same tensor become one.

::

    python examples/write_a_pass.py

It is registered by the decorator, so `find_pass("merge-linears")`, pipelines and TOML files know it by name; a package
announces it to the command line with one line in its ``pyproject.toml``::

    [project.entry-points."penstock.passes"]
    my-package = "my_package.merge_linears"
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch.fx import Node

import penstock
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Pass, register
from penstock.passes.core.context import Context, Declined
from penstock.passes.core.instruments import Verify
from penstock.passes.core.printer import format_graph
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class MergeLinears(Pass):
    """Let linear layers that read the same tensor become one, whose result is split.

    What: one large matrix product keeps a GPU busier than three small ones, and the input is read once. Weights are
    concatenated now, not at run time.

    Given::

        query = linear(x, query.weight, query.bias)                     f32[1, 17, 32]
        key = linear(x, key.weight, key.bias)                           f32[1, 17, 32]

    Result::

        query_linear = linear(x, merged.query.weight, merged.query.bias)   f32[1, 17, 64]
        query_split_with_sizes = split_with_sizes(query_linear, [32, 32], -1)
        query = getitem(query_split_with_sizes, 0)                      f32[1, 17, 32]
        key = getitem(query_split_with_sizes, 1)                        f32[1, 17, 32]

    Options:
        at_least: how many layers must share an input to be worth it.

    Exactness: exact up to rounding; each element is the same sum, perhaps in another order.

    Source: the fused query-key-value projection of most attention implementations.
    """

    at_least: int = 2

    def run(self, program: Program, context: Context) -> Program:
        """Merge in every graph."""
        changed = {}
        for name, module in program.graphs.items():
            edit = Rewriter(module, self.name())
            for group in self._groups(edit, context):
                self._merge(edit, group)
            if edit.changed:
                changed[name] = edit.finish(name)
        return program.with_graphs(**changed) if changed else program

    def _groups(self, edit: Rewriter, context: Context) -> list[list[Node]]:
        """Linear layers by what they read, in order; those without company are declined, with the reason."""
        readers: dict[tuple[Node, bool], list[Node]] = {}
        for node in edit.nodes(aten.linear.default):
            arguments = arguments_of(node)
            weights = [arguments[name] for name in ("weight", "bias") if arguments[name] is not None]
            if any(weight.op != "get_attr" for weight in weights):
                context.decline(self.name(), node, "its weight is computed, not stored")
                continue
            readers.setdefault((arguments["input"], len(weights) == 2), []).append(node)
        for group in readers.values():
            if len(group) < self.at_least:
                context.decline(self.name(), group[0], f"only {len(group)} layer(s) like it read its input")
        return [group for group in readers.values() if len(group) >= self.at_least]

    def _merge(self, edit: Rewriter, group: list[Node]) -> None:
        first = arguments_of(group[0])
        emit = edit.at(group[0])
        merged = []
        for name in ("weight", "bias"):
            if first[name] is not None:
                stored = [edit.weights[str(arguments_of(node)[name].target)] for node in group]
                merged.append(emit.constant(torch.cat(stored).detach(), f"merged.{group[0].name}.{name}"))
        whole = emit(aten.linear.default, first["input"], *merged)
        parts = emit(aten.split_with_sizes.default, whole, [shape_of(node)[-1] for node in group], -1)
        items = [emit(operator.getitem, parts, index) for index in range(len(group))]
        for node, item in zip(group, items, strict=True):
            edit.replace(node, item)


def main() -> None:
    """Apply the pass to a vision transformer, prove it exact, and show what it did."""
    console = Console(width=160)
    before = penstock.capture(f"{Path(__file__).with_name('zoo.py')}:vit")
    declined: list[Declined] = []
    after = penstock.optimize(before, pipeline=[MergeLinears()], instruments=[Verify()], declined=declined)
    for title, program in (("before", before), ("after", after)):
        lines = [line for line in format_graph(program.graphs["main"]).splitlines() if " = linear(" in line]
        console.print(f"[bold]{title}[/]: {len(lines)} linear layers, the first of them")
        for line in lines[:3]:
            console.print(line, markup=False)
    console.print(f"[bold]left alone[/]: {len(declined)}, the first because")
    console.print(f"  {declined[0]}", markup=False)


if __name__ == "__main__":
    main()
