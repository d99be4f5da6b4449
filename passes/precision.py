"""Half precision: float32 models in 16-bit storage, with what 16 bits cannot hold kept in 32."""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_map

from penstock.passes.core.base import Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program, TensorSpec, placeholders, result_nodes
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import fake_like, infer, is_fake, value_of

aten = torch.ops.aten

_LARGEST = torch.finfo(torch.float16).max
_SMALLEST = 2.0**-24

_SINGLE = frozenset({
    aten.sin.default, aten.cos.default, aten.exp.default, aten.log.default, aten.pow.Tensor_Scalar,
    aten.pow.Scalar, aten.pow.Tensor_Tensor, aten.rsqrt.default, aten.sqrt.default, aten.reciprocal.default,
    aten.softplus.default, aten.cumsum.default, aten.sum.dim_IntList, aten.mean.dim, aten.var.correction,
    aten.linalg_vector_norm.default, aten.log_softmax.int,
})  # fmt: skip
"""Operators whose result, or whose way to it, leaves the range or precision of 16 bits."""

_PERIODIC = frozenset({aten.sin.default, aten.cos.default})
"""Operators that read the fraction of a large number: everything they are computed from must be exact."""

_FOLLOW = frozenset({
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.neg.default, aten.where.self,
    aten.clamp.default, aten.maximum.default, aten.minimum.default, aten.view.default, aten.reshape.default,
    aten._unsafe_view.default, aten.expand.default, aten.unsqueeze.default, aten.squeeze.dims, aten.permute.default,
    aten.transpose.int, aten.slice.Tensor, aten.select.int, aten.cat.default, aten.stack.default, aten.clone.default,
    aten.repeat.default, aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
    aten.flip.default, aten.constant_pad_nd.default, aten.repeat_interleave.self_int, aten.index.Tensor,
    aten.index_select.default, aten.copy.default, aten.slice_scatter.default, aten._to_copy.default, operator.getitem,
    aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default,
    aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default,
})  # fmt: skip
"""Operators that take the precision of their arguments: 32 bits if all are, 16 if one is."""


@register
@dataclass(frozen=True)
class HalfPrecision(Pass):
    """Store weights and activations in float16, and compute in float32 where float16 would break the model.

    What:
        ==========================================  ================================================================
        operator                                    precision
        ==========================================  ================================================================
        convolution, linear, matmul, attention,     float16 in and out (back ends accumulate in float32)
        norms, activations, everything else
        sin, cos, exp, log, powers, roots, sums,    float32 in and out
        means, cumulative sums
        what sin and cos are computed from          float32, back to the model's inputs and weights: a timestep of 999
                                                    times a frequency has no fraction left in float16
        what an epsilon is added to that would be   float32 out, of operands in float16: a sum of 1e-9 over another
        0 in float16                                is a number, in float16 it is 0 / 0
        arithmetic and layout between those         float32 if all arguments are, if a number in it (an epsilon)
                                                    would be 0 in float16, or if it divides by a float32; else float16
        ==========================================  ================================================================

        Weights are converted once; numbers in the graph that float16 cannot hold become its largest. Inputs become
        float16 unless they are kept in float32 by the third row; outputs become float16. Integers stay.

    Given::

        in   x                              f32[1, 8]
        linear = linear(x, w)               f32[1, 4]

    Result::

        in   x                              f16[1, 8]
        linear = linear(x, w)               f16[1, 4]

    Exactness:
        Lossy: 11 bits of precision, values up to 65504. A Program without float32 values comes back as it is.

    Source:
        The split into 16-bit, 32-bit and following operators is that of Micikevicius et al., "Mixed Precision
        Training", 2018, and torch.autocast; the rule for periodic functions is penstock's own.
    """

    exactness = "lossy"

    def run(self, program: Program, context: Context) -> Program:
        """Convert all graphs and the signature."""
        exact_inputs = _exact_values(program)
        signature = program.signature
        single = [spec.name for spec in (*signature.inputs, *signature.outputs) if spec.dtype == torch.float32]
        if exact_inputs.issuperset(single):
            return program
        graphs, pool = {}, _WeightPool()
        for name, module in program.graphs.items():
            graphs[name] = _Converter(module, self.name(), pool).convert(name)
        return _with_signature(program.with_graphs(**graphs), exact_inputs)


def _exact_values(program: Program) -> frozenset[str]:
    """The Program's values that some graph takes as an argument to be kept in float32."""
    kept: set[str] = set()
    for op, _ in program.plan.calls():
        module = program.graphs[op.graph]
        exact = _computed_into_periodic(module)
        kept.update(name for name, node in zip(op.args, placeholders(module), strict=True) if node in exact)
    return frozenset(kept)


def _computed_into_periodic(module: GraphModule) -> set[Node]:
    """Everything that sin and cos are computed from, through arithmetic and layout."""
    exact: set[Node] = set()
    for node in reversed(list(module.graph.nodes)):
        feeds = any(
            user.target in _PERIODIC or (user in exact and (user.target in _FOLLOW or user.target in _SINGLE))
            for user in node.users
        )
        if feeds and _is_single(node):
            exact.add(node)
    return exact


def _computed_into_tiny(module: GraphModule) -> set[Node]:
    """What a vanishing epsilon is added to, back to the operator that makes it: it may be as small as the epsilon."""
    tiny: set[Node] = set()
    for node in reversed(list(module.graph.nodes)):
        feeds = any(user.target in _FOLLOW and (_vanishes(user) or user in tiny) for user in node.users)
        if feeds and node.op == "call_function" and _is_single(node):
            tiny.add(node)
    return tiny


def _is_single(node: Node) -> bool:
    value = node.meta.get("val")
    items = value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(item, torch.Tensor) and item.dtype == torch.float32 for item in items)


class _WeightPool:
    """Half-precision copies of weights, one for each tensor however many graphs and names it has."""

    def __init__(self) -> None:
        self._halves: dict[int, torch.Tensor] = {}

    def half(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight in float16, finite values kept finite."""
        if id(weight) not in self._halves:
            with torch.no_grad():
                narrow = weight.to(torch.float16) if is_fake(weight) else _saturated(weight)
            is_parameter = isinstance(weight, torch.nn.Parameter)
            self._halves[id(weight)] = torch.nn.Parameter(narrow, weight.requires_grad) if is_parameter else narrow
        return self._halves[id(weight)]


def _saturated(weight: torch.Tensor) -> torch.Tensor:
    return torch.where(weight.isfinite(), weight.clamp(-_LARGEST, _LARGEST), weight).to(torch.float16)


class _Converter:
    """One walk over one graph, in order; each node's arguments have been converted before it."""

    def __init__(self, module: GraphModule, made_by: str, pool: _WeightPool) -> None:
        self.edit = Rewriter(module, made_by)
        self.pool = pool
        self.exact = {self.edit.origin[node] for node in _computed_into_periodic(module)}
        self.tiny = {self.edit.origin[node] for node in _computed_into_tiny(module)}
        self._casts: dict[tuple[Node, torch.dtype], Node] = {}

    def convert(self, name: str) -> GraphModule:
        """Convert the graph."""
        for node in list(self.edit.graph.nodes):
            if node.op == "placeholder" and node not in self.exact:
                node.meta["val"] = tree_map(_half_of, node.meta["val"])
            elif node.op == "get_attr" and node not in self.exact and _is_single(node):
                target = str(node.target)
                self.edit.weights[target] = self.pool.half(self.edit.weights[target])
                node.meta["val"] = fake_like(self.edit.weights[target])
            elif node.op == "call_function":
                self._call(node)
        self._results()
        return self.edit.finish(name)

    def _call(self, node: Node) -> None:
        if node.target is not operator.getitem:
            wanted = self._precision(node)
            args, kwargs = (self._cast_all(part, node, wanted) for part in (node.args, node.kwargs))
            if wanted == torch.float16:
                args, kwargs = _saturate_numbers(args), _halve_dtype(node, _saturate_numbers(kwargs))
            node.args, node.kwargs = args, kwargs
        node.meta["val"] = fake_like(infer(node.target, node.args, node.kwargs))

    def _precision(self, node: Node) -> torch.dtype:
        """The precision in which an operator takes its floating-point arguments."""
        if node in self.exact or node in self.tiny or node.target in _SINGLE:
            return torch.float32
        if node.target in _FOLLOW and (_vanishes(node) or _divides_by_single(node)):
            return torch.float32
        floats = [used for used in node.all_input_nodes if value_of_is_float(used)]
        if node.target in _FOLLOW and all(_is_single(used) for used in floats):
            return torch.float32
        return torch.float16

    def _cast_all(self, part: Any, node: Node, wanted: torch.dtype) -> Any:
        return tree_map(lambda item: self._cast(item, node, wanted) if isinstance(item, Node) else item, part)

    def _cast(self, used: Node, user: Node, wanted: torch.dtype) -> Node:
        value = used.meta["val"]
        if not isinstance(value, torch.Tensor) or value.dtype == wanted or not value_of_is_float(used):
            return used
        key = (used, wanted)
        if key not in self._casts:
            self._casts[key] = self.edit.at(user)(aten._to_copy.default, used, dtype=wanted)
        return self._casts[key]

    def _results(self) -> None:
        output = self.edit.graph.output_node()
        output.args = (self._cast_all(output.args[0], output, torch.float16),)


def _vanishes(node: Node) -> bool:
    """Whether a number of the operator (an epsilon, mostly) would be 0 in float16."""
    return any(isinstance(item, float) and 0 < abs(item) < _SMALLEST for item in node.args)


def _divides_by_single(node: Node) -> bool:
    """Whether a float32 denominator, kept so for its small values, must not be rounded to 0 now."""
    divisor = node.args[1] if node.target is aten.div.Tensor else None
    return isinstance(divisor, Node) and value_of(divisor).dtype == torch.float32


def value_of_is_float(node: Node) -> bool:
    """Whether a node yields a float16 or float32 tensor."""
    value = value_of(node)
    return isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.float32)


def _half_of(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        return fake_like(value.to(torch.float16))
    return value


def _saturate_numbers(part: Any) -> Any:
    def one(item: Any) -> Any:
        return max(-_LARGEST, min(_LARGEST, item)) if isinstance(item, float) and abs(item) != torch.inf else item

    return tree_map(one, part)


def _halve_dtype(node: Node, kwargs: Any) -> Any:
    """A cast to float32 of something that is computed in float16 becomes a cast to float16; integers stay integers."""
    if kwargs.get("dtype") != torch.float32:
        return kwargs
    floats = any(value_of_is_float(used) for used in node.all_input_nodes)
    return {**kwargs, "dtype": torch.float16} if floats else kwargs


def _with_signature(program: Program, exact_inputs: frozenset[str]) -> Program:
    produced: dict[str, torch.dtype] = {}
    for op, _ in program.plan.calls():
        for name, node in zip(op.results, result_nodes(program.graphs[op.graph]), strict=True):
            produced[name] = value_of(node).dtype

    def spec_of(spec: TensorSpec, dtype: torch.dtype) -> TensorSpec:
        return dataclasses.replace(spec, dtype=dtype)

    inputs = tuple(
        spec_of(spec, torch.float16) if spec.dtype == torch.float32 and spec.name not in exact_inputs else spec
        for spec in program.signature.inputs
    )
    outputs = tuple(spec_of(spec, produced.get(spec.name, spec.dtype)) for spec in program.signature.outputs)
    examples = tuple(tensor.to(spec.dtype) for tensor, spec in zip(program.examples, inputs, strict=True))
    signature = dataclasses.replace(program.signature, inputs=inputs, outputs=outputs)
    return dataclasses.replace(program, signature=signature, examples=examples)
