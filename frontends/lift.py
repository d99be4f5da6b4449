"""From torch's `ExportedProgram` to a Program: weights become named attributes, mutated buffers become states.

torch carries weights as extra arguments and writes buffers back behind the scenes. Here a weight is a ``get_attr`` node
under its name in the state dict, and a buffer that the model writes is an explicit input and an explicit output.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind, TensorArgument
from torch.fx import Graph, Node
from torch.utils._pytree import TreeSpec, tree_leaves, tree_unflatten

from penstock.passes.core import dialect
from penstock.passes.core.eager import on_device
from penstock.passes.core.errors import CaptureError, Unsupported, UnsupportedOperatorError
from penstock.passes.core.graphs import eliminate_dead_nodes, make_module
from penstock.passes.core.program import Plan, Program, Signature, TensorSpec, attribute
from penstock.passes.core.shapes import fake_like, value_of
from penstock.passes.core.source import source_of
from penstock.passes.core.structure import structure_of

_CPU = torch.device("cpu")
_ASSERTIONS = ("aten::_assert", "aten::sym_constrain_", "aten::_linalg_check_errors")
_WEIGHTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


def program_from_exported(exported: ExportedProgram, name: str, examples: Sequence[torch.Tensor]) -> Program:
    """A Program of the one graph ``main``.

    Args:
        exported: functional, as `run_decompositions` leaves it.
        name: what to call the model in the provenance.
        examples: one tensor per user input.
    """
    _refuse_dynamic_shapes(exported, name)
    lift = _Lift(exported)
    lift.copy_nodes()
    _refuse_foreign_operators(lift.graph, name)
    module = make_module(lift.weights, lift.graph, "main")
    first_state = len(lift.inputs) - len(lift.states)
    inputs = [_spec(node) for node in lift.inputs[:first_state]]
    taken = {spec.name for spec in inputs}
    state_names = tuple(f"{name}_state" if name in taken else name for name in lift.states)
    inputs += [_spec(node, name) for node, name in zip(lift.inputs[first_state:], state_names, strict=True)]
    results: tuple[Node, ...] = lift.graph.output_node().args[0]  # type: ignore[assignment]
    user_count = len(results) - len(state_names)
    outputs = [_spec(node, f"output_{index}") for index, node in enumerate(results[:user_count])]
    outputs += [_spec(node, f"{state}_next") for node, state in zip(results[user_count:], state_names, strict=True)]
    if user_count == 1:
        outputs[0] = TensorSpec("output", outputs[0].shape, outputs[0].dtype)
    signature = Signature(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        arguments=_structure(exported.call_spec.in_spec, lift.input_leaves),
        result=_structure(exported.call_spec.out_spec, lift.output_leaves),
        states=state_names,
    )
    plan = Plan.single("main", tuple(spec.name for spec in inputs), tuple(spec.name for spec in outputs))
    program = Program(
        {"main": module}, plan, signature, (*examples, *lift.states.values()), provenance=(f"captured {name}",)
    )
    dialect.check(program, f"the capture of {name}")
    return program


class _Lift:
    """One walk over an exported graph."""

    def __init__(self, exported: ExportedProgram) -> None:
        self.exported = exported
        self.graph = Graph()
        self.weights: dict[str, torch.Tensor] = {}
        self.states: dict[str, torch.Tensor] = {}
        self.inputs: list[Node] = []
        self.input_leaves: list[Any] = []
        self.output_leaves: list[Any] = []
        self._map: dict[Node, Node] = {}
        self._tokens: set[Node] = set()
        signature = exported.graph_signature
        self._specs = {spec.arg.name: spec for spec in signature.input_specs}
        self._mutated = {
            spec.target for spec in signature.output_specs if spec.kind == OutputKind.BUFFER_MUTATION and spec.target
        }

    def copy_nodes(self) -> None:
        """Copy all nodes, lifting what torch passes behind the scenes."""
        nodes = list(self.exported.graph.nodes)
        for node in (node for node in nodes if node.op == "placeholder"):
            self._placeholder(node, self._specs[node.name])
        # States come after the user's inputs.
        for node in (node for node in nodes if node.op == "placeholder"):
            if self._is_state(self._specs[node.name]):
                self._state(node, self._specs[node.name])
        for node in nodes:
            if node.op == "get_attr":
                self._tokens.add(node)  # the body of a loop or branch, whose operator is refused afterwards
            elif node.op == "call_function" and not self._is_noise(node):
                self._copy(node)
            elif node.op == "output":
                self._output(node)
        eliminate_dead_nodes(self.graph)

    def _is_state(self, spec: InputSpec) -> bool:
        return spec.kind == InputKind.BUFFER and spec.target in self._mutated

    def _placeholder(self, node: Node, spec: InputSpec) -> None:
        if spec.kind == InputKind.USER_INPUT:
            if not isinstance(spec.arg, TensorArgument):
                self.input_leaves.append(getattr(spec.arg, "value", None))
                return
            new = self.graph.placeholder(node.name)
            self.inputs.append(new)
            self.input_leaves.append(value_of(node))
            self._finish(node, new)
        elif spec.kind == InputKind.TOKEN:
            self._tokens.add(node)
        elif self._is_state(spec):
            return
        elif spec.kind in _WEIGHTS:
            target = str(spec.target)
            self.weights[target] = self._tensor(spec)
            new = self.graph.create_node("get_attr", target, name=target.replace(".", "_"))
            self._finish(node, new)
            new.meta["val"] = fake_like(self.weights[target])
        else:
            raise CaptureError(f"the model passes a {spec.kind.name.lower()} ('{node.name}') through its graph")

    def _state(self, node: Node, spec: InputSpec) -> None:
        # A copy: the user's module goes on writing its own.
        self.states[str(spec.target)] = self._tensor(spec).detach().clone()
        new = self.graph.placeholder(node.name)
        self.inputs.append(new)
        self._finish(node, new)

    def _tensor(self, spec: InputSpec) -> torch.Tensor:
        target = str(spec.target)
        for source in (self.exported.state_dict, self.exported.constants):
            if target in source and isinstance(source[target], torch.Tensor):
                tensor: torch.Tensor = source[target]
                return tensor
        return attribute(self.exported.graph_module, target)

    def _is_noise(self, node: Node) -> bool:
        """Whether a node leaves nothing behind: an assertion, the token that orders assertions, or an alias."""
        target = node.target
        if node.args and node.args[0] in self._tokens and (target is operator.getitem or _asserts(node)):
            self._tokens.add(node)
            return True
        if isinstance(target, OpOverload) and target._schema.name.startswith(_ASSERTIONS):
            return True
        if isinstance(target, OpOverload) and target._schema.name in (
            "aten::alias",
            "aten::detach",
            "aten::lift_fresh",
        ):
            self._map[node] = self._map[node.args[0]]  # type: ignore[index]
            return True
        return False

    def _copy(self, node: Node) -> None:
        new = self.graph.node_copy(node, self._mapped)
        if new.kwargs.get("device") not in (None, _CPU):
            new.args, new.kwargs = on_device(new, _CPU)  # where it runs is not for a graph to say
        self._finish(node, new)

    def _mapped(self, used: Node) -> Node:
        return self._map[used] if used not in self._tokens else self.inputs[0]

    def _finish(self, old: Node, new: Node) -> None:
        self._map[old] = new
        new.meta = {key: old.meta[key] for key in ("stack_trace", "nn_module_stack") if key in old.meta}
        new.meta["val"] = fake_like(old.meta.get("val"))

    def _output(self, node: Node) -> None:
        results: list[Node] = []
        written: dict[str, Node] = {}
        for item, spec in zip(node.args[0], self.exported.graph_signature.output_specs, strict=True):  # type: ignore[arg-type]
            if spec.kind == OutputKind.TOKEN:
                continue
            if spec.kind == OutputKind.BUFFER_MUTATION:
                written[str(spec.target)] = self._map[item]
            elif spec.kind == OutputKind.USER_OUTPUT:
                if isinstance(item, Node):
                    results.append(self._map[item])
                    self.output_leaves.append(value_of(item))
                else:
                    self.output_leaves.append(item)
            else:
                raise CaptureError(
                    f"forward writes into its argument '{spec.target}' ({spec.kind.name.lower()}); "
                    f"return the new value instead"
                )
        self.graph.output(tuple(results + [written[state] for state in self.states]))


def _asserts(node: Node) -> bool:
    """Whether an effect (`with_effects(token, operator, …)`) is an assertion."""
    wrapped = node.args[1] if len(node.args) > 1 else None
    return isinstance(wrapped, OpOverload) and wrapped._schema.name.startswith(_ASSERTIONS)


def _spec(node: Node, name: str | None = None) -> TensorSpec:
    value = value_of(node)
    return TensorSpec(name or node.name, tuple(value.shape), value.dtype)


def _structure(spec: TreeSpec | None, leaves: Sequence[Any]) -> dict[str, Any]:
    """The nest of a torch tree spec; registered containers are described by what they hold."""
    assert spec is not None

    def walk(node: TreeSpec, items: list[Any]) -> Any:
        if node.is_leaf():
            return items.pop(0)
        children = [walk(child, items) for child in node.children()]
        if node.type in (tuple, list):
            return node.type(children)
        if node.type is dict:
            return dict(zip(node.context, children, strict=True))
        try:
            container = tree_unflatten(children, _flat(node, len(children)))
        except Exception:
            return tuple(children)
        if isinstance(container, dict):
            return dict(zip(container, children, strict=True))
        return tuple(children)

    return structure_of(walk(spec, list(leaves)))


def _flat(node: TreeSpec, width: int) -> TreeSpec:
    from torch.utils._pytree import LeafSpec

    return TreeSpec(node.type, node.context, [LeafSpec() for _ in range(width)])


def _refuse_dynamic_shapes(exported: ExportedProgram, name: str) -> None:
    # Not `exported.range_constraints`: torch leaves unused symbols there when an example input is a view.
    symbols: dict[str, Node] = {}  # each size that is no number, with where it first appears
    for node in exported.graph.nodes:
        for value in tree_leaves(node.meta.get("val")):
            if isinstance(value, torch.Tensor):
                for extent in value.shape:
                    if not isinstance(extent, int):
                        symbols.setdefault(str(extent), node)
    if not symbols:
        return
    first = next(iter(symbols.values()))
    if first.op == "placeholder":
        raise CaptureError(
            f"{name} has dynamic shapes ({', '.join(symbols)}); export it without dynamic_shapes, once per size"
        )
    place = ", ".join(filter(None, (str(first.target), source_of(first))))
    raise CaptureError(
        f"{name}: the size of '{first.name}' ({place}) depends on values; use a form of one size: "
        "torch.where or a multiplication by the mask instead of indexing by it"
    )


def _refuse_foreign_operators(graph: Graph, name: str) -> None:
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if not isinstance(node.target, OpOverload) or node.target._schema.is_mutable:
            found.setdefault(str(node.target), []).append(node)
    if found:
        raise UnsupportedOperatorError(
            f"the capture of {name}",
            [
                Unsupported(
                    operator_name,
                    tuple(node.name for node in nodes),
                    tuple(dict.fromkeys(filter(None, map(source_of, nodes)))),
                    _advice(nodes[0].target),
                )
                for operator_name, nodes in sorted(found.items())
            ],
        )


def _advice(target: Any) -> str:
    if isinstance(target, HigherOrderOperator):
        return "unroll the loop or branch, or make its body one torch.library.custom_op with a fake kernel"
    if isinstance(target, OpOverload):
        return "use the operator's form that returns a new tensor"
    return "capture the model with static shapes and no Python objects between operators"
