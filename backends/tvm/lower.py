"""From penstock's dialect to Relax: one function per graph, in one module.

A graph's function takes the graph's arguments and then the weights it reads, in the order in which it names them; it
returns a tuple. All graphs take weights by the same names, so that each lives once on the device. The only constants in
the module are numbers (rank 0), which become part of kernels.

The table of operators is in `penstock.backends.tvm.ops`.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
import tvm
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_map_only
from tvm import relax

from penstock.backends.tvm.intrinsics import register_math_functions
from penstock.backends.tvm.ops.emit import Emit, constant, dtype_of, is_expr, shape_of
from penstock.backends.tvm.ops.registry import RefusalError, arguments, lowering_of, supported
from penstock.backends.tvm.panels import Panels, reads_panels, tied_weights
from penstock.backends.tvm.vector_math import register_vector_math
from penstock.passes.core.aliases import is_view
from penstock.passes.core.errors import InvalidProgramError, PenstockError, Unsupported, UnsupportedOperatorError
from penstock.passes.core.program import Program, attribute, placeholders, result_nodes
from penstock.passes.core.shapes import dtype_name, is_fake, value_of
from penstock.passes.core.source import source_of

_DTYPES = frozenset({"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"})
_NONE: Mapping[str, Set[str]] = {}
_WITHOUT_DOUBLE = frozenset({"opencl", "metal"})


@dataclass(frozen=True)
class Lowered:
    """A Relax module and what to feed it.

    Attributes:
        module: one function per graph, under the graph's name.
        weights: for each graph, the names of the weights that its function takes after the graph's arguments.
        packed: the weights among them that are the Program's in another order, by name.
        nodes: for each graph, the variables that are values of nodes in memory of their own, with the nodes' names.
    """

    module: tvm.IRModule
    weights: dict[str, tuple[str, ...]]
    packed: dict[str, torch.Tensor]
    nodes: dict[str, dict[str, str]]


def lower(program: Program, apart: Mapping[str, Set[str]] = _NONE, graphs: Iterable[str] | None = None) -> Lowered:
    """Lower graphs of a Program.

    Call it inside ``with target:``: kernels that bring their own schedule look at the current target.

    Args:
        apart: for each graph, nodes whose values are to be in memory: no kernel makes them and goes on.
        graphs: by name; None for all.

    Raises:
        UnsupportedOperatorError: with all operators of all graphs that have no lowering, or whose arguments or dtypes
            it does not take.
    """
    register_math_functions()
    register_vector_math()
    builder = relax.BlockBuilder()
    problems = _Problems()
    lowered = Lowered(tvm.IRModule(), {}, {}, {})
    tied = tied_weights(program)
    for name in program.graphs if graphs is None else graphs:
        weights = _Weights(program.graphs[name], lowered.packed, tied)
        _lower_graph(builder, name, program.graphs[name], weights, problems, lowered, apart.get(name, frozenset()))
    problems.raise_any()
    return replace(lowered, module=builder.finalize())


def _lower_graph(
    builder: Any,
    name: str,
    graph: GraphModule,
    weights: _Weights,
    problems: _Problems,
    lowered: Lowered,
    apart: Set[str],
) -> None:
    """Add one graph's function to the module, and what there is to know of it to `lowered`."""
    inputs = placeholders(graph)
    values: dict[Node, Any] = {node: _variables(node) for node in inputs}
    nodes = lowered.nodes[name] = {}
    values |= weights.values
    parameters = [*(values[node] for node in inputs), *weights.variables.values()]
    with builder.function(name, parameters, attrs={"num_input": len(inputs)}):
        with builder.dataflow():
            for node in _late_views(graph):
                if node.op in ("placeholder", "get_attr"):
                    problems.refused_dtype(node)
                elif node.op == "call_function":
                    value = _lower_node(builder, node, values, weights, problems)
                    if isinstance(value, relax.Var) and not (is_view(node) or node.target is operator.getitem):
                        nodes[str(value.name)] = node.name
                        value = builder.emit_output(value, node.name) if node.name in apart else value
                    values[node] = value
            result = builder.emit_output(tuple(values[node] for node in result_nodes(graph)))
        function = builder.emit_func_output(result)
    if function.name_hint != name:
        raise InvalidProgramError(f"a kernel is already called '{name}'; give the graph '{name}' another name")
    lowered.weights[name] = tuple(weights.variables)


def _late_views(graph: GraphModule) -> Iterator[Node]:
    """The nodes of a graph, each view before the first that needs it.

    A kernel runs where the first of its operators stands. One that begins with a view would run long before its value
    is needed, which lies in memory until then.
    """
    waiting: set[Node] = set()

    def ready(node: Node) -> Iterator[Node]:
        for source in node.all_input_nodes:
            if source in waiting:
                waiting.remove(source)
                yield from ready(source)
        yield node

    for node in graph.graph.nodes:
        if is_view(node):
            waiting.add(node)
        else:
            yield from ready(node)


def weights_of(graph: GraphModule, packed: dict[str, torch.Tensor], tied: Set[str]) -> tuple[str, ...]:
    """The names of the weights that a graph's function takes.

    Args:
        packed: gets those that are the Program's in another order.
        tied: those that embeddings find packed.
    """
    return tuple(_Weights(graph, packed, tied).variables)


class _Weights:
    """The weights that one graph reads.

    Attributes:
        values: by the node that reads it, a variable, or a constant for a number.
        variables: by name, in order.
    """

    def __init__(self, graph: GraphModule, packed: dict[str, torch.Tensor], tied: Set[str]) -> None:
        self.values: dict[Node, Any] = {}
        self._panels: dict[tuple[Node, Node], Any] = {}
        panels = Panels.current()
        variables: dict[str, Any] = {}
        for node in graph.graph.find_nodes(op="get_attr"):
            name, tensor = str(node.target), attribute(graph, str(node.target))
            if is_number(tensor):
                self.values[node] = constant(tensor.item(), dtype_name(tensor.dtype))
                continue
            readers = [
                user for user in node.users if panels is not None and (name in tied or reads_panels(user, node, tensor))
            ]
            for user in readers:
                assert panels is not None
                form = panels.name(name, user)
                if form not in packed:
                    packed[form] = panels.packed(tensor, user)
                kind = relax.TensorType((tensor.numel(),), dtype_name(tensor.dtype))
                self._panels[node, user] = variables.setdefault(form, relax.Var(f"{node.name}_panels", kind))
            if len(readers) < len(node.users):
                self.values[node] = variables.setdefault(name, _variables(node))
            else:
                self.values[node] = _variables(node)  # only its shape and dtype are asked for
        self.variables = variables

    def panels(self, node: Node) -> Any:
        """The weight that a node multiplies by or looks up, packed, as a variable; None if it is not."""
        return next((variable for (_, user), variable in self._panels.items() if user is node), None)


def _lower_node(builder: Any, node: Node, values: dict[Node, Any], weights: _Weights, problems: _Problems) -> Any:
    """The expression for a node, or a sequence of them; for an unsupported one, variables that stand in for it."""
    if node.target is operator.getitem:
        return values[node.args[0]][node.args[1]]  # type: ignore[index]
    lowering = lowering_of(node.target)
    if lowering is None:
        problems.add(node, str(node.target), _way_out(node))
        return _variables(node)
    if problems.refused_dtype(node):
        return _variables(node)
    try:
        result = lowering(Emit(builder, node, weights.panels(node)), *arguments(node, values.__getitem__))
    except RefusalError as refusal:
        problems.add(node, f"{node.target}: {refusal.reason}", refusal.advice)
        return _variables(node)
    except PenstockError:
        raise
    except Exception as error:
        place = ", ".join(filter(None, (str(node.target), source_of(node))))
        reason = f"{type(error).__name__}: {error}"
        raise InvalidProgramError(f"lowering '{node.name}' ({place}) failed: {reason}") from error
    _check_result(node, result)
    return result


def _check_result(node: Node, result: Any) -> None:
    """A lowering must make exactly what torch inferred."""
    expected = value_of(node)
    pairs = [(expected, result)] if isinstance(expected, torch.Tensor) else list(zip(expected, result, strict=True))
    for tensor, expr in pairs:
        wanted = (tuple(tensor.shape), dtype_name(tensor.dtype))
        found = (shape_of(expr), dtype_of(expr)) if is_expr(expr) else expr
        if found != wanted:
            raise InvalidProgramError(f"the lowering of '{node.name}' ({node.target}) made {found}, expected {wanted}")


def _variables(node: Node) -> Any:
    """A Relax variable for a node's value, or one for each tensor of a tuple."""
    name = node.name

    def variable(tensor: torch.Tensor) -> Any:
        dtype = dtype_name(tensor.dtype)
        return relax.Var(name, relax.TensorType(tuple(tensor.shape), dtype if dtype in _DTYPES else "float32"))

    return tree_map_only(torch.Tensor, variable, value_of(node))


def is_number(weight: torch.Tensor) -> bool:
    """Whether a weight becomes a constant, and so a part of kernels."""
    return not (weight.dim() or is_fake(weight) or dtype_name(weight.dtype) not in _DTYPES)


class _Problems:
    """Everything that stands against lowering a Program, gathered so that one error can tell it all."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str], list[Node]] = {}

    def add(self, node: Node, what: str, advice: str) -> None:
        """Record a node that cannot be lowered."""
        self._nodes.setdefault((what, advice), []).append(node)

    def refused_dtype(self, node: Node) -> bool:
        """Whether the node yields a dtype that the target does not have; recorded if so."""
        value = value_of(node)
        for tensor in (value,) if isinstance(value, torch.Tensor) else value:
            dtype = dtype_name(tensor.dtype)
            target = tvm.target.Target.current(allow_none=True)
            if dtype not in _DTYPES:
                advice = "split complex numbers into reals" if tensor.is_complex() else "cast to float16 or float32"
                self.add(node, f"{node.target} in {dtype}", advice)
                return True
            if dtype == "float64" and target is not None and target.kind.name in _WITHOUT_DOUBLE:
                advice = "phone GPUs have no double precision: cast to float32"
                self.add(node, f"{node.target} in {dtype} on {target.kind.name}", advice)
                return True
        return False

    def raise_any(self) -> None:
        """Raise everything at once, if there is anything."""
        if self._nodes:
            raise UnsupportedOperatorError(
                "the TVM back end",
                [
                    Unsupported(
                        what,
                        tuple(node.name for node in nodes),
                        tuple(dict.fromkeys(filter(None, map(source_of, nodes)))),
                        advice,
                    )
                    for (what, advice), nodes in sorted(self._nodes.items(), key=lambda item: item[0])
                ],
            )


def _way_out(node: Node) -> str:
    """The nearest operator that has a lowering, and how to add one."""
    near = difflib.get_close_matches(str(node.target), map(str, supported()), n=1, cutoff=0.85)
    nearest = f"the nearest operator that has one is {near[0]}; " if near else ""
    return f"{nearest}write it with other operators, or write a lowering with @lowers (entry point penstock.lowerings)"
