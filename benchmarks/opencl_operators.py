"""Every distinct operator of the zoo and of some layers, compiled for OpenCL twice: by penstock, and by TVM alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.fx import Graph, Node

import penstock
from benchmarks.kernels import KERNELS
from benchmarks.opencl_cases import LAYERS, OURS, THEIRS, Case, example
from benchmarks.tvm_defaults import compile_with_tvm
from examples.zoo import ZOO
from penstock.backends.artifact.manifest import SignatureRecord
from penstock.backends.targets import Target
from penstock.backends.tvm.build import compile_program
from penstock.backends.tvm.standalone import write_compiled
from penstock.passes.analysis.cost import node_flops, node_moved_bytes
from penstock.passes.core.graphs import make_module
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.printer import op_name
from penstock.passes.core.program import Call, Phase, Plan, Program, Signature, TensorSpec, attribute
from penstock.passes.core.shapes import value_of
from penstock.passes.presets import LEGALIZE, SINGLE_PRECISION

LARGER: dict[str, dict[int, dict[int, int]]] = {
    "svd_unet": {0: {3: 16, 4: 16}},
    "animatediff_unet": {0: {3: 16, 4: 16}},
    "unet2d": {0: {2: 32, 3: 32}},
    "svd_vae_decoder": {0: {2: 16, 3: 16}},
    "dc_autoencoder": {0: {2: 64, 3: 64}},
    "ltx_vae_decoder": {0: {2: 4, 3: 4, 4: 8}},
    "wan_vae_decoder": {0: {3: 8, 4: 8}},
    "ltx_dit": {0: {0: 8}, 1: {0: 8}, 2: {0: 8}, 3: {0: 8}},
    "wan_dit": {0: {3: 16, 4: 16}},
    "cogvideox_dit": {0: {0: 8}, 1: {0: 8}, 2: {0: 8}},
    "hunyuan_dit": {0: {3: 8, 4: 8}},
    "mamba": {0: {0: 16}},
    "mamba2": {0: {1: 128}},
    "vit": {0: {0: 16}},
    "llama": {0: {0: 8, 1: 32}},
}
"""Extents of the inputs' dimensions at the larger size: around ten times the work."""


def operators(program: Program, known: set[str]) -> dict[str, Node]:
    """The operators of a Program that are not known yet, by a name that tells shapes and constants."""
    found: dict[str, Node] = {}
    for module in program.graphs.values():
        for node in module.graph.nodes:
            if node.op != "call_function":
                continue
            if not all(isinstance(value_of(each), torch.Tensor) for each in (node, *node.all_input_nodes)):
                continue
            key = f"{node.target} {torch.fx.node.map_arg((node.args, node.kwargs), _described)}"
            if node_moved_bytes(node) and key not in known:
                known.add(key)
                found[key] = node
    return found


def _described(node: Node) -> Any:
    return f"{value_of(node).dtype}{list(value_of(node).shape)}{node.op == 'get_attr'}"


def program_of(nodes: list[Node], owner: Program) -> Program:
    """A Program with a graph per node, called one after the other; weights stay weights."""
    modules = list(owner.graphs.values())
    calls, inputs, outputs, examples, graphs = [], [], [], [], {}
    for index, node in enumerate(nodes):
        name, graph, taken, weights = f"op{index}", Graph(), [], {}
        module = next(held for held in modules if node in held.graph.nodes)
        copies: dict[Node, Node] = {}
        for used in node.all_input_nodes:
            if used.op == "get_attr":
                weights[str(used.target)] = attribute(module, str(used.target))
                copies[used] = graph.get_attr(str(used.target))
            else:
                spec = TensorSpec(f"{name}.{len(taken)}", tuple(value_of(used).shape), value_of(used).dtype)
                copies[used] = graph.placeholder(f"input_{len(taken)}")
                taken.append(spec)
                examples.append(example(spec))
            copies[used].meta["val"] = used.meta["val"]
        made = graph.node_copy(node, copies.__getitem__)
        graph.output((made,))
        graphs[name] = make_module(weights, graph)
        value = value_of(node)
        outputs.append(TensorSpec(f"{name}.out", tuple(value.shape), value.dtype))
        calls.append(Call(name, tuple(spec.name for spec in taken), (outputs[-1].name,)))
        inputs += taken
    signature = Signature(tuple(inputs), tuple(outputs), {"tuple": []}, {"tuple": []})
    return Program(graphs, Plan((Phase("main", (tuple(calls),)),)), signature, tuple(examples))


def captured(name: str, size: str) -> Iterator[Program]:
    """A model of the zoo, or the layers of `benchmarks.kernels`, which have one size.

    Args:
        size: ``zoo``, or ``larger`` for `LARGER`.
    """
    if name == LAYERS:
        if size == "zoo":
            yield from (penstock.capture(*build()) for build in KERNELS.values())
        return
    program = penstock.capture(*ZOO[name]())
    if size == "larger":
        names = [spec.name for spec in program.signature.inputs]
        program = penstock.resize(program, {names[place]: dims for place, dims in LARGER[name].items()})
    yield program


def compile_cases(name: str, size: str, target: Target, cases: Path, known: set[str]) -> Iterator[Case]:
    """Compile the operators of a model that are not known yet, one at a time, each into a folder of its own.

    Args:
        cases: the folder of all cases.
        known: operators that were met before; grows.
    """
    number = itertools.count()
    for program in captured(name, size):
        optimized = penstock.optimize(program, target=target.name)
        ready = Pipeline((*SINGLE_PRECISION, *LEGALIZE)).run(optimized)
        for node in operators(ready, known).values():
            about = {"folder": f"{name}-{size}-{next(number)}", "model": name, "size": size}
            case = compile_case(node, ready, target, cases, about)
            if case is not None:
                yield case


def compile_case(node: Node, owner: Program, target: Target, cases: Path, about: Mapping[str, str]) -> Case | None:
    """Compile one operator twice; None where TVM does not take it, or where it needs no kernel.

    Args:
        about: the case's folder, model and size.
    """
    program = program_of([node], owner)
    theirs = compile_with_tvm(program, target)
    if theirs is None:
        return None
    ours = compile_program(program, target)
    if not ours.kernels or not theirs.kernels:
        return None
    case = Case(
        **about,
        operator=op_name(node),
        shapes=" ".join("×".join(map(str, value_of(used).shape)) for used in node.all_input_nodes),
        flops=node_flops(node),
        moved_bytes=node_moved_bytes(node),
        signature=SignatureRecord.of(program.signature),
    )
    for compiled, kind in ((ours, OURS), (theirs, THEIRS)):
        folder = cases / case.folder / kind
        folder.mkdir(parents=True)
        write_compiled(compiled, program.plan, program.signature, program.weights, target, folder)
    return case
