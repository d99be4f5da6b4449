"""A stable text form of graphs and Programs, for people to read and for tests and caches to compare.

::

    graph main
      in   x                            f32[1, 16, 8, 8]
      w    conv.weight                  f32[32, 16, 3, 3]
      conv2d        = conv2d(x, conv.weight, None, [1, 1], [1, 1])      f32[1, 32, 8, 8]
      return (conv2d)

Nothing in it depends on memory addresses, hash order or torch's own formatting.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from penstock.passes.core.program import Call, Op, Program, SliceLoop, Window, result_nodes
from penstock.passes.core.shapes import dtype_name, value_of
from penstock.passes.core.source import made_by, module_of, source_of

_SHORT = {
    "float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64", "bool": "bool", "int64": "i64",
    "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "u8", "complex64": "c64",
}  # fmt: skip


def format_type(value: Any) -> str:
    """``f32[1, 16, 8, 8]``, or ``(f32[2], f32[2])`` for a tuple."""
    if isinstance(value, torch.Tensor):
        return short_type(dtype_name(value.dtype), value.shape)
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(format_type, value))})"
    return "none" if value is None else type(value).__name__


def short_type(dtype: str, shape: Sequence[int]) -> str:
    """``f32[1, 16]`` for ``float32`` and its shape."""
    return f"{_SHORT.get(dtype, dtype)}[{', '.join(map(str, shape))}]"


def op_name(node: Node) -> str:
    """The operator as people write it: ``conv2d``, ``add``, ``penstock.selective_scan``, ``slice.Tensor``."""
    target = node.target
    if target is operator.getitem:
        return "getitem"
    if not isinstance(target, OpOverload):
        return str(getattr(target, "__name__", target))
    space, _, base = target._schema.name.partition("::")
    overload = "" if target._overloadname in ("default", "Tensor", "") else f".{target._overloadname}"
    return f"{base}{overload}" if space == "aten" else f"{space}.{base}{overload}"


def format_argument(argument: Any) -> str:
    """One argument: a node by its name, a weight by its full name, everything else as its value."""
    if isinstance(argument, Node):
        return str(argument.target) if argument.op == "get_attr" else argument.name
    if isinstance(argument, (tuple, list)):
        return f"[{', '.join(map(format_argument, argument))}]"
    if isinstance(argument, dict):
        return "{" + ", ".join(f"{key}: {format_argument(item)}" for key, item in sorted(argument.items())) + "}"
    if isinstance(argument, torch.dtype):
        return dtype_name(argument)
    if isinstance(argument, (torch.device, torch.layout, torch.memory_format)):
        return str(argument).removeprefix("torch.")
    return repr(argument)


def format_call(node: Node) -> str:
    """``conv2d(x, conv.weight, None, [1, 1])``."""
    arguments = [format_argument(argument) for argument in node.args]
    arguments += [f"{key}={format_argument(value)}" for key, value in node.kwargs.items()]
    return f"{op_name(node)}({', '.join(arguments)})"


def format_graph(module: GraphModule, name: str = "main", sources: bool = False) -> str:
    """A graph as text, one line per node.

    Args:
        sources: add the module, the source line and the pass that made each node.
    """
    nodes = list(module.graph.nodes)
    rows: list[tuple[str, str, Node | None]] = []
    for node in nodes:
        if node.op == "placeholder":
            rows.append((f"in   {node.name}", format_type(value_of(node)), node))
        elif node.op == "get_attr":
            rows.append((f"w    {node.target}", format_type(value_of(node)), None))
        elif node.op == "call_function":
            rows.append((f"{node.name} = {format_call(node)}", format_type(value_of(node)), node))
    width = min(max((len(left) for left, _, _ in rows), default=0), 96)
    lines = [f"graph {name}"]
    for left, right, origin in rows:
        line = f"  {left:<{width}}  {right}"
        lines.append(f"{line}  # {_origin(origin)}" if sources and origin is not None and _origin(origin) else line)
    lines.append(f"  return ({', '.join(map(format_argument, result_nodes(module)))})")
    return "\n".join(lines) + "\n"


def format_program(program: Program, sources: bool = False) -> str:
    """The plan and all graphs as text."""
    lines = [_border("input", program.signature.inputs), _border("output", program.signature.outputs)]
    for phase in program.plan.phases:
        lines.append(f"phase {phase.name}")
        for step in phase.steps:
            lines += _ops(step, "  ")
    graphs = [format_graph(program.graphs[name], name, sources) for name in sorted(program.graphs)]
    return "\n".join(lines) + "\n\n" + "\n".join(graphs)


def _ops(ops: Sequence[Op], indent: str) -> list[str]:
    if all(isinstance(op, Call) for op in ops):
        calls = [f"({', '.join(op.results)}) = {op.graph}({', '.join(op.args)})" for op in ops if isinstance(op, Call)]
        return [indent + "; ".join(calls)]
    lines: list[str] = []
    for op in ops:
        lines += _ops([op], indent) if isinstance(op, Call) else _loop(op, indent)
    return lines


def _loop(loop: SliceLoop, indent: str) -> list[str]:
    made = ", ".join(
        f"{short_type(dtype, shape)} {name}" + (f" in place of {reused}" if reused else "")
        for name, shape, dtype, reused in zip(loop.results, loop.shapes, loop.dtypes, loop.reuses, strict=True)
    )
    lines = [f"{indent}slice ({made})"]
    lines += [f"{indent}  keeps {short_type(each.dtype, each.shape)} {each.name}" for each in loop.kept]
    for piece in loop.pieces:
        taken = ", ".join(
            f"{param} = {name}{_window(window)}" for param, (name, window) in zip(piece.params, piece.args, strict=True)
        )
        taken = ", ".join([taken] * bool(taken) + [f"{each.value} = {each.memory}" for each in piece.takes])
        lines.append(f"{indent}  {piece.count} × with {taken}")
        lines += _ops(piece.ops, indent + "    ")
        tiles = zip(loop.results, piece.tiles, piece.returns, strict=True)
        lines += [f"{indent}    {name}{_window(tile)} = {made}" for name, tile, made in tiles if made is not None]
        lines += [f"{indent}    {each.memory} = {each.value}" for each in piece.keeps]
    return lines


def _window(window: Window | None) -> str:
    """``[dim 1 of 14: 2k … 2k+2]``, with the factors of a dimension that has several."""
    if window is None:
        return ""
    whole = window.outer == window.inner == 1
    axis = f"{window.size}" if whole else f"{window.outer}×{window.size}×{window.inner}"
    start = f"{window.step}k" + (f"+{window.start}" if window.start else "")
    return f"[dim {window.dim} of {axis}: {start} … +{window.extent}]"


def _border(kind: str, specs: Sequence[Any]) -> str:
    items = [f"{spec.name} {short_type(dtype_name(spec.dtype), spec.shape)}" for spec in specs]
    return f"{kind} {', '.join(items)}"


def _origin(node: Node) -> str:
    parts = [module_of(node), source_of(node), f"by {made_by(node)}" if made_by(node) else ""]
    return " · ".join(part for part in parts if part)
