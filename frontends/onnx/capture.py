"""`capture_onnx`: an ONNX file becomes a Program of one graph, with ONNX's names in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from onnx import ModelProto
from torch import Tensor
from torch.fx.graph import _Namespace

from penstock.frontends.onnx.example_inputs import example_inputs
from penstock.frontends.onnx.importer import import_graph
from penstock.frontends.onnx.inline import inline_functions
from penstock.frontends.onnx.module import OnnxModule
from penstock.frontends.onnx.read import read_onnx
from penstock.frontends.torch_export import capture_module, quiet
from penstock.passes.core.printer import op_name
from penstock.passes.core.program import Plan, Program, TensorSpec, placeholders
from penstock.passes.core.source import module_of


def capture_onnx(source: Path | str | ModelProto, args: Sequence[Tensor] | None = None) -> Program:
    """Capture an ONNX model.

    Inputs and outputs keep their ONNX names, nodes are called after the ONNX nodes that they come from, and weights
    keep the names of their initializers; characters that Python's names do not allow become ``_``. Nodes carry the
    module path and source line that the exporter left in the file.

    Args:
        source: a file (with its external data files beside it), or a model in memory.
        args: example inputs, one tensor per input of the model in order. Random ones when None; a model with dynamic
            sizes needs them.

    Raises:
        UsageError: the file is missing, damaged, or not valid; `args` do not fit; sizes are dynamic.
        UnsupportedOperatorError: names all operators that are not supported.
        CaptureError: a node does not take the shapes it gets.
    """
    file = read_onnx(source)
    file = replace(file, model=inline_functions(file.model))
    examples = example_inputs(file, args)
    with quiet():
        module = import_graph(file, examples)
    return _with_onnx_names(capture_module(module, examples, name=file.name), module)


def _with_onnx_names(program: Program, module: OnnxModule) -> Program:
    """Give a fresh capture the names and places of the ONNX graph."""
    graph = program.graphs["main"].graph
    steps = {node: module.step_at(module_of(node)) for node in graph.nodes if node.op == "call_function"}
    remaining = Counter(step for step in steps.values() if step is not None)
    names = _Namespace()
    for node, value in zip(placeholders(program.graphs["main"]), module.inputs, strict=True):
        node.name = names.create_name(value.name, None)
    for node in graph.nodes:
        step = steps.get(node)
        if step is None:
            if node.op != "placeholder":
                node.name = names.create_name(node.name, None)
            continue
        remaining[step] -= 1
        last = remaining[step] == 0
        node.name = names.create_name(step.origin.node if last else f"{step.origin.node}_{op_name(node)}", None)
        node.meta["stack_trace"] = step.origin.trace
        node.meta["nn_module_stack"] = {path: (path, kind) for path, kind in step.origin.modules}
    graph._graph_namespace = names
    return _with_border_names(program, module)


def _with_border_names(program: Program, module: OnnxModule) -> Program:
    signature = program.signature
    inputs = _renamed(signature.inputs, [value.name for value in module.inputs])
    outputs = _renamed(signature.outputs, module.outputs)
    return replace(
        program,
        plan=Plan.single("main", tuple(spec.name for spec in inputs), tuple(spec.name for spec in outputs)),
        signature=replace(signature, inputs=inputs, outputs=outputs),
    )


def _renamed(specs: Sequence[TensorSpec], names: Iterable[str]) -> tuple[TensorSpec, ...]:
    """The specs under other names, made legal and unique."""
    taken: dict[str, None] = {}
    for name in names:
        legal = re.sub(r"\W", "_", name)
        while legal in taken:
            legal += "_"
        taken[legal] = None
    return tuple(replace(spec, name=name) for spec, name in zip(specs, taken, strict=True))
