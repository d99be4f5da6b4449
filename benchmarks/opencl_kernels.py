"""Every distinct operator of the zoo on an OpenCL device: our kernels against TVM's own, in turns.

::

    python -m benchmarks.opencl_kernels                    # the sizes of the zoo and larger ones
    python -m benchmarks.opencl_kernels --model vit --rounds 20 --gflops 4000 --gbytes 900

Each operator is a graph of its own, compiled twice and run by the native runner; a time is the sum of its launches by
the device's clock, from the start of a kernel to its end. TVM's own is what its users get (`tvm_defaults.py`); those
that TVM does not take are in no mean. The fraction of the roofline takes the device's peaks from the options; without
them, those of this machine's processor (`limit.py`), which is the device when OpenCL is PoCL. `--keep` replaces what
was kept of the same models and sizes, and leaves the rest.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.fx import Graph, Node

import penstock
from benchmarks.harness import kept_rows, table, write_results
from benchmarks.limit import Limit, measure_limit
from benchmarks.tvm_defaults import compile_with_tvm
from examples.zoo import ZOO
from penstock.backends.runner import Runner, opencl_devices
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import CompiledProgram, compile_program
from penstock.backends.tvm.standalone import load_compiled
from penstock.passes.analysis.cost import node_flops, node_moved_bytes
from penstock.passes.core.graphs import make_module
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.printer import op_name
from penstock.passes.core.program import Call, Phase, Plan, Program, Signature, TensorSpec, attribute
from penstock.passes.core.shapes import value_of
from penstock.passes.presets import LEGALIZE, SINGLE_PRECISION

RESULT = "opencl_kernels"
SIZES = ("zoo", "larger")
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


@dataclass(frozen=True)
class Row:
    """One operator at one size.

    Attributes:
        ratio: times faster than with TVM's schedules, the median over rounds of the ratio within a round.
        of_limit: the least time that the device allows over ours.
    """

    operator: str
    shapes: str
    model: str
    size: str
    microseconds: float
    ratio: float
    of_limit: float


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
                examples.append(_example(spec))
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


def _example(spec: TensorSpec) -> torch.Tensor:
    if spec.dtype.is_floating_point:
        return torch.randn(spec.shape, dtype=spec.dtype)
    return torch.zeros(spec.shape, dtype=spec.dtype)


def prepared(name: str, size: str) -> Program:
    """A model of the zoo, optimised and legalised for OpenCL."""
    program = penstock.capture(*ZOO[name]())
    if size == "larger":
        names = [spec.name for spec in program.signature.inputs]
        program = penstock.resize(program, {names[place]: dims for place, dims in LARGER[name].items()})
    ready = penstock.optimize(program, target="opencl")
    return Pipeline((*SINGLE_PRECISION, *LEGALIZE)).run(ready)


def measure(name: str, size: str, rounds: int, limit: Limit, known: set[str]) -> Iterator[Row]:
    """Time the operators of one model that were not met yet."""
    program = prepared(name, size)
    for node in operators(program, known).values():
        # One at a time: PoCL looks a kernel up in a list of all that were ever loaded, the latest first.
        times = alternated(program_of([node], program), rounds)
        if not times or not all(all(pair) for pair in times):
            continue  # TVM does not take it, or it is a view, or copies only
        mine = [ours for ours, _ in times]
        least = limit.least_seconds(node_flops(node), node_moved_bytes(node))
        shapes = " ".join("×".join(map(str, value_of(used).shape)) for used in node.all_input_nodes)
        ratio = statistics.median(theirs / ours for ours, theirs in times)
        yield Row(op_name(node), shapes, name, size, 1e6 * statistics.median(mine), ratio, least / min(mine))


def alternated(program: Program, rounds: int) -> list[tuple[float, float]]:
    """The seconds of ours and of TVM's kernels, round by round; none if TVM does not take the operator."""
    device = find_target("opencl")
    default = compile_with_tvm(program, device)
    if default is None:
        return []
    with tempfile.TemporaryDirectory() as ours_folder, tempfile.TemporaryDirectory() as theirs_folder:
        ours = _loaded(compile_program(program, device), program, Path(ours_folder))
        theirs = _loaded(default, program, Path(theirs_folder))
        for mine, other in zip(ours.run(program.examples), theirs.run(program.examples), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3, equal_nan=True)
        times = []
        for turn in range(rounds):
            first, second = (ours, theirs) if turn % 2 else (theirs, ours)
            pair = _seconds(first, program), _seconds(second, program)
            times.append(pair if turn % 2 else pair[::-1])
    return times


def _loaded(compiled: CompiledProgram, program: Program, folder: Path) -> Runner:
    return load_compiled(compiled, program.plan, program.signature, program.weights, find_target("opencl"), folder)


def _seconds(runner: Runner, program: Program) -> float:
    """Seconds of the kernels of one run, after one that wakes the device up."""
    runner.run(program.examples)
    return sum(launch.seconds for launch in runner.profile(program.examples) if launch.kernel != "copy")


def geometric_mean(rows: list[Row]) -> float:
    """Of the ratios."""
    return math.exp(statistics.fmean(math.log(row.ratio) for row in rows)) if rows else float("nan")


def summary(rows: list[Row]) -> str:
    """A line per kind of operator, and one for all."""
    kinds = sorted({row.operator for row in rows})
    groups = [(kind, [row for row in rows if row.operator == kind]) for kind in kinds]
    groups.sort(key=lambda group: geometric_mean(group[1]))
    lines = [
        [
            kind,
            str(len(mine)),
            f"{geometric_mean(mine):.2f} ×",
            f"{min(row.ratio for row in mine):.2f} ×",
            f"{max(row.of_limit for row in mine):.3f}",
        ]
        for kind, mine in [
            *groups,
            *((f"all, {size}", [row for row in rows if row.size == size]) for size in SIZES),
            ("all", rows),
        ]
        if mine
    ]
    return table(["operator", "shapes", "faster, geometric mean", "least", "of the limit, best"], lines)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(ZOO))
    parser.add_argument("--size", action="append", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--gflops", type=float, help="the device's float32 peak, 10⁹ operations per second")
    parser.add_argument("--gbytes", type=float, help="the peak of its memory, 10⁹ bytes per second")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/opencl_kernels")
    options = parser.parse_args()
    devices = opencl_devices()
    print("devices:", "; ".join(devices) or "none: pip install pocl-binary-distribution")
    if options.gflops and options.gbytes:
        limit = Limit(options.gflops * 1e9, options.gbytes * 1e9)
    else:
        limit = measure_limit(len(os.sched_getaffinity(0)))
    print(limit)
    rows: list[Row] = []
    known: set[str] = set()
    for name in options.model or ZOO:
        for size in options.size or SIZES:
            fresh = list(measure(name, size, options.rounds, limit, known))
            rows += fresh
            print(f"{name}, {size}: {len(fresh)} operators, {geometric_mean(fresh):.2f} × TVM's", flush=True)
    print(summary(rows))
    losses = [row for row in rows if row.ratio < 1]
    for row in sorted(losses, key=lambda row: row.ratio):
        print(f"  slower: {row.operator} {row.shapes} {row.ratio:.2f} × ({row.microseconds:.0f} µs)")
    if options.keep:
        measured = {(name, size) for name in options.model or ZOO for size in options.size or SIZES}
        kept = [Row(**row) for row in kept_rows(RESULT) if (row["model"], row["size"]) not in measured]
        kept_already = {(row.operator, row.shapes) for row in kept}
        rows = kept + [row for row in rows if (row.operator, row.shapes) not in kept_already]
        data = {"device": devices[:1], "limit": limit.as_data(), "rows": [asdict(row) for row in rows]}
        write_results(RESULT, data, summary(rows))


if __name__ == "__main__":
    main()
