"""`resize`: a captured Program for other sizes of its inputs, as if it had been captured with them."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map

from penstock.passes.analysis.axes import inputs_of
from penstock.passes.core import dialect
from penstock.passes.core.arguments import changed_arguments
from penstock.passes.core.errors import UsageError
from penstock.passes.core.graphs import make_module
from penstock.passes.core.printer import op_name
from penstock.passes.core.program import Call, Program, TensorSpec, placeholders, result_nodes, weights_of
from penstock.passes.core.shapes import FAKE_MODE, infer, is_fake, shape_of, tensor_of, value_of
from penstock.passes.core.source import source_of
from penstock.passes.resizing.atoms import ConflictError, Extent, leaves, size_of
from penstock.passes.resizing.literals import natural, new_arguments
from penstock.passes.resizing.numbers import settle_numbers
from penstock.passes.resizing.relations import Relations
from penstock.passes.resizing.sizes import Sizes

aten = torch.ops.aten
_log = logging.getLogger(__name__)
Shape = tuple[int, ...]


def resize(program: Program, sizes: Mapping[str, Mapping[int, int]]) -> Program:
    """The Program for other sizes of its inputs: frames, height and width, tokens, batch.

    Every number of the graph that is one of these sizes, or follows from them, is changed; weights stay as they are.
    Inputs that share a size with a resized one are resized with it.

    Args:
        sizes: for inputs by name, dimensions and their new sizes: ``{"sample": {1: 25, 3: 64}}``.

    Returns:
        The new Program; the same object if the sizes are what it has.

    Raises:
        UsageError: there is no such input or dimension; a weight has the size, or two sizes contradict each other, or
            where an operator's sizes cannot be told; the text names the operator and its line in the model.
    """
    ops = list(program.plan.ops())
    call = ops[0]
    if len(ops) != 1 or not isinstance(call, Call):
        raise UsageError("only a captured program can be resized: resize first, then slice or run other passes")
    specs = {spec.name: spec for spec in program.signature.inputs}
    for name, dims in sizes.items():
        if name not in specs:
            raise UsageError(f"there is no input '{name}'; the inputs are {', '.join(specs)}")
        for dim, size in dims.items():
            if not 0 <= dim < len(specs[name].shape) or size < 1:
                shape = list(specs[name].shape)
                raise UsageError(f"input '{name}' is {shape}: there can be no size {size} at dimension {dim}")
    if all(specs[name].shape[dim] == size for name, dims in sizes.items() for dim, size in dims.items()):
        return program
    for name, dims in sizes.items():
        for dim, size in dims.items():
            if specs[name].shape[dim] == 1 < size:
                _log.warning(
                    "dimension %d of input '%s' was 1 when the model was captured: what broadcasts along it looks like "
                    "what follows it; compare with the model, or capture it with 2 or more",
                    dim, name,
                )  # fmt: skip
    with _quiet():
        module = _Resizer(program.graphs[call.graph], call.args, sizes).module(call.graph)
    shapes = dict(zip(call.args, map(shape_of, placeholders(module)), strict=True))
    shapes |= dict(zip(call.results, map(shape_of, result_nodes(module)), strict=True))
    signature = replace(
        program.signature,
        inputs=tuple(_of_shape(spec, shapes) for spec in program.signature.inputs),
        outputs=tuple(_of_shape(spec, shapes) for spec in program.signature.outputs),
    )
    examples = tuple(map(_example, program.examples, (spec.shape for spec in signature.inputs)))
    said = ", ".join(f"{name}:{dim}={size}" for name, dims in sizes.items() for dim, size in dims.items())
    result = replace(program.with_graphs(**{call.graph: module}), signature=signature, examples=examples)
    dialect.check(result, "resize")
    return result.noted(f"resized to {said}")


def parse_sizes(settings: Sequence[str]) -> dict[str, dict[int, int]]:
    """Read sizes written as ``INPUT:DIM=SIZE``.

    Raises:
        UsageError: a setting is not written so.
    """
    sizes: dict[str, dict[int, int]] = {}
    for setting in settings:
        found = re.fullmatch(r"(.+):(\d+)=(\d+)", setting)
        if found is None:
            raise UsageError(f"'{setting}' is no new size; write INPUT:DIM=SIZE, as in sample:1=25")
        name, dim, size = found.groups()
        sizes.setdefault(name, {})[int(dim)] = int(size)
    return sizes


def _of_shape(spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]]) -> TensorSpec:
    return replace(spec, shape=shapes[spec.name])


def _example(example: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """An example in another shape: its values again, or the first of them, so that indices stay within bounds."""
    if tuple(example.shape) == tuple(shape):
        return example
    if is_fake(example):
        with FAKE_MODE:
            return torch.empty(tuple(shape), dtype=example.dtype)
    for dim, size in enumerate(shape):
        places = torch.arange(size) % example.shape[dim]
        example = example.index_select(dim, places)
    return example


@contextmanager
def _quiet() -> Iterator[None]:
    """No tracebacks in the log for operators that cannot run on new sizes."""
    noisy = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, noisy.disabled = noisy.disabled, True
    try:
        yield
    finally:
        noisy.disabled = disabled


class _Resizer:
    """One graph with new sizes."""

    def __init__(self, module: GraphModule, names: Sequence[str], asked: Mapping[str, Mapping[int, int]]) -> None:
        self._module = module
        self._sizes = Sizes()
        self._relations = Relations(self._computed, self._sizes.of)
        wanted: list[tuple[str, int, int, Extent]] = []
        for node, name in zip(placeholders(module), names, strict=True):
            self._relations.argument(node, f"input '{name}'")
            for dim, size in asked.get(name, {}).items():
                (atom,) = extent = self._relations.of(node)[dim]
                atom.asked = size
                wanted.append((name, dim, size, extent))
        try:
            self._relate(wanted)
        except ConflictError as error:
            raise UsageError(f"the sizes contradict each other: {error}") from error

    def _relate(self, wanted: Sequence[tuple[str, int, int, Extent]]) -> None:
        open_ = [each for each in wanted if each[2] != size_of(each[3])]
        for node in self._module.graph.nodes:
            if node.op == "get_attr":
                self._relations.weight(node)
            elif node.op == "call_function":
                self._relations.operator(node)
                for name, dim, size, extent in open_:
                    parts = leaves(extent)
                    if all(part.fixed for part in parts):
                        raise UsageError(
                            f"input '{name}' cannot have {size} at dimension {dim}: {parts[0].says} has this size, "
                            f"which '{node.name}' ({op_name(node)}, {source_of(node)}) needs; capture the model anew"
                        )
        extents = itertools.chain.from_iterable(self._relations.extents.values())
        self._sizes.solve(itertools.chain.from_iterable(itertools.chain.from_iterable(extents)))
        for name, dim, size, extent in open_:
            found = self._sizes.of(extent)
            if found != size:
                raise UsageError(f"input '{name}' cannot have {size} at dimension {dim}: it would be {found}")

    def _computed(self, node: Node, place: int, dim: int) -> int:
        """The new size of a dimension that an operator computes."""
        sources = list(inputs_of(node).values())
        changes = natural(node, self._shape(sources[0])) if sources else {}
        value = self._inferred(node, changes)
        return int((value[place] if isinstance(value, (tuple, list)) else value).shape[dim])

    def _shape(self, node: Node) -> tuple[int, ...]:
        return self._sizes.shape(self._relations.of(node))

    def _inferred(self, node: Node, changes: Mapping[str, Any]) -> Any:
        args, kwargs = changed_arguments(node, changes)

        def new(leaf: Any) -> Any:
            if not isinstance(leaf, Node):
                return leaf
            with FAKE_MODE:
                return torch.empty(self._shape(leaf), dtype=tensor_of(leaf).dtype)

        try:
            return infer(node.target, *tree_map(new, (tuple(args), dict(kwargs))))
        except (RuntimeError, ValueError, IndexError) as error:
            raise ConflictError(
                f"'{node.name}' ({op_name(node)}, {source_of(node)}) cannot run on "
                f"{', '.join(str(list(self._shape(source))) for source in inputs_of(node).values())}: "
                f"{str(error).splitlines()[0]}"
            ) from error

    def module(self, name: str) -> GraphModule:
        """The graph with new sizes.

        Raises:
            UsageError: as `resize`.
        """
        graph = Graph()
        made: dict[Node, Node] = {}
        for node in self._module.graph.nodes:
            made[node] = graph.node_copy(node, made.__getitem__)
            made[node].meta = dict(node.meta)
            if node.op == "placeholder":
                with FAKE_MODE:
                    made[node].meta["val"] = torch.empty(self._shape(node), dtype=tensor_of(node).dtype)
            elif node.op == "call_function":
                try:
                    self._settle(node, made[node])
                except ConflictError as error:
                    raise UsageError(f"the program cannot be resized so: {error}; capture the model anew") from error
        settle_numbers(made, self._changed())
        return make_module(weights_of(self._module), graph, name)

    def _changed(self) -> dict[int, set[int]]:
        """What the sizes that may change were, and what they are now."""
        changed: dict[int, set[int]] = {}
        for extents in self._relations.extents.values():
            for extent in itertools.chain.from_iterable(extents):
                if not all(atom.fixed for atom in leaves(extent)):
                    changed.setdefault(size_of(extent), set()).add(self._sizes.of(extent))
        return changed

    def _settle(self, node: Node, copy: Node) -> None:
        """Give a copied operator its new sizes."""
        extents = self._relations.extents[node]
        results = [self._sizes.shape(each) for each in extents]
        if isinstance(node.target, torch._ops.OpOverload):
            sources = list(inputs_of(node).values())
            changed = results != _shapes(value_of(node)) or any(
                tuple(made.meta["val"].shape) != shape_of(source)
                for made, source in zip(copy.all_input_nodes, node.all_input_nodes, strict=True)
                if isinstance(value_of(source), torch.Tensor)
            )
            if not changed:
                return
            source = self._shape(sources[0]) if sources else None
            before = self._relations.before.get(node)
            start = sum(map(self._sizes.of, before)) if before is not None else None
            args, kwargs = changed_arguments(node, new_arguments(node, source, results, start))
            copies = dict(zip(node.all_input_nodes, copy.all_input_nodes, strict=True))
            copy.args, copy.kwargs = map_arg((args, kwargs), copies.__getitem__)  # type: ignore[assignment]
        try:
            copy.meta["val"] = _inferred(copy)
        except (RuntimeError, ValueError, IndexError) as error:
            shapes = ", ".join(str(list(each.meta["val"].shape)) for each in copy.all_input_nodes)
            why = str(error).splitlines()[0]
            raise ConflictError(
                f"'{node.name}' ({op_name(node)}, {source_of(node)}) cannot run on {shapes}: {why}"
            ) from error
        found = _shapes(copy.meta["val"])
        if found != results:
            raise ConflictError(self._disagreement(node, found, results))

    def _disagreement(self, node: Node, found: Sequence[Shape], needed: Sequence[Shape]) -> str:
        """What an operator makes, what other operators need it to be, and what keeps it from being that."""
        if len(found) != len(needed):
            return (
                f"'{node.name}' ({op_name(node)}, {source_of(node)}) makes {len(found)} parts where {len(needed)} "
                "are needed"
            )
        place = next(place for place, pair in enumerate(zip(found, needed, strict=True)) if pair[0] != pair[1])
        text = (
            f"'{node.name}' ({op_name(node)}, {source_of(node)}) makes {list(found[place])} where "
            f"{list(needed[place])} is needed"
        )
        if len(found[place]) != len(needed[place]):
            return text
        dim = next(dim for dim in range(-1, -99, -1) if found[place][dim] != needed[place][dim])
        for atom in leaves(self._relations.extents[node][place][dim]):
            if atom.fixed:
                return f"{text}, and {atom.says} stays"
        for source in inputs_of(node).values():
            extents = self._relations.of(source)
            for atom in leaves(extents[dim]) if len(extents) >= -dim else ():
                if atom.asked is None and " of input '" in atom.says:
                    return f"{text}: {atom.says} stays {self._sizes.of([atom])}, so name it too"
        return text


def _inferred(node: Node) -> Any:
    try:
        return infer(node.target, node.args, node.kwargs)
    except (RuntimeError, ValueError):
        if node.target is not aten.view.default:
            raise
        node.target = aten.reshape.default  # a size of 1 hid that the values do not lie in order
        return infer(node.target, node.args, node.kwargs)


def _shapes(value: Any) -> list[tuple[int, ...]]:
    return [tuple(each.shape) for each in (value if isinstance(value, (tuple, list)) else [value])]
