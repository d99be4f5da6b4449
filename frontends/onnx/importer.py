"""From an ONNX graph to an `OnnxModule`: one walk that settles shapes and constants and collects what is unsupported.

The walk runs every node on fake tensors, so all shapes are known as it goes. A node whose inputs are all known (and no
learned weights) is computed at once, on real tensors: that takes in the shape arithmetic of which ONNX files are full.
Everything else becomes a step. A node that is not supported is noted, and what depends on it is passed over, so that
one walk finds all of them.
"""

from __future__ import annotations

import difflib
from collections import ChainMap
from collections.abc import Sequence
from functools import partial

import onnx
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from penstock.frontends.onnx import ops, sequences
from penstock.frontends.onnx.inline import is_supported
from penstock.frontends.onnx.module import OnnxModule, Step, Value, described
from penstock.frontends.onnx.origin import Origin, origin_of
from penstock.frontends.onnx.read import OnnxFile
from penstock.frontends.onnx.registry import UnsupportedFormError, find_operator, supported_operators
from penstock.frontends.onnx.tensors import tensor_of_proto
from penstock.passes.core.errors import CaptureError, Unsupported, UnsupportedOperatorError, UsageError
from penstock.passes.core.shapes import FAKE_MODE, fake_like

ops.load()

LARGEST_FOLDED = 65536
"""Elements: a larger constant (a mask, a position table) stays in the graph as the steps that make it."""

_REFUSED = Value("", torch.empty(0))  # stands for the results of an unsupported node
_STATISTICS = {"BatchNormalization": (3, 4)}  # inputs that training does not change by gradient

_ADVICE = {
    "If": "its condition depends on the model's inputs; export the branch that you need, or use Where",
    "Loop": "export the model with the loop unrolled (torch.onnx.export(dynamo=True) does), or call the body per step",
    "Scan": "export the model with the scan unrolled (torch.onnx.export(dynamo=True) does)",
    "RandomNormal": "make the noise an input of the model",
    "RandomNormalLike": "make the noise an input of the model",
    "RandomUniform": "make the noise an input of the model",
    "RandomUniformLike": "make the noise an input of the model",
}
_VALUE_DEPENDENT = "the size of its result depends on the model's inputs; shapes must be static"

Scope = ChainMap[str, Value]


def import_graph(file: OnnxFile, examples: Sequence[Tensor]) -> OnnxModule:
    """The module that computes an ONNX graph.

    Args:
        file: local functions are inlined already.
        examples: one tensor per input; their shapes and dtypes count, not their data.

    Raises:
        UnsupportedOperatorError: names all unsupported nodes.
        CaptureError: a node does not take the shapes it gets.
    """
    return _Import(file).run(examples)


def inputs_of(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs of a graph that have no initial value."""
    initialised = {tensor.name for tensor in graph.initializer}
    return [item for item in graph.input if item.name not in initialised]


class _Import:
    """The state of one walk."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.opsets = file.opsets
        self.steps: list[Step] = []
        self.refused: dict[tuple[str, str], list[Origin]] = {}
        self.count = 0

    def run(self, examples: Sequence[Tensor]) -> OnnxModule:
        graph = self.file.model.graph
        names = [item.name for item in inputs_of(graph)]
        inputs = [Value(name, fake_like(tensor)) for name, tensor in zip(names, examples, strict=True)]
        scope: Scope = ChainMap(dict(zip(names, inputs, strict=True)))
        self._graph(graph, scope)
        if self.refused:
            raise self._error()
        return OnnxModule(inputs, self.steps, {item.name: scope[item.name] for item in graph.output})

    def _graph(self, graph: onnx.GraphProto, scope: Scope) -> None:
        untrained = {
            node.input[position]
            for node in graph.node
            for position in _STATISTICS.get(node.op_type, ())
            if position < len(node.input)
        }
        for proto in graph.initializer:
            tensor = self._tensor(proto)
            weight = tensor.is_floating_point() and tensor.numel() > 1
            trained = weight and proto.name not in untrained
            scope[proto.name] = Value(proto.name, fake_like(tensor), tensor, weight, trained)
        for node in graph.node:
            self.count += 1
            self._node(node, scope)

    def _opset(self, node: onnx.NodeProto) -> int:
        return self.opsets.get(node.domain, 0)

    def _tensor(self, proto: onnx.TensorProto) -> Tensor:
        try:
            return tensor_of_proto(proto, self.file.folder)
        except UsageError as error:
            raise UsageError(f"{self.file.name}: {error}") from error

    def _node(self, node: onnx.NodeProto, scope: Scope) -> None:
        origin = origin_of(node, self.count, self.file.name)
        values = [scope[name] if name else None for name in node.input]
        try:
            results = self._results(node, values, scope, origin)
        except UnsupportedFormError as error:
            self._refuse(node, origin, str(error))
            results = ()
        named = [name for name in node.output if name]
        if not results:
            results = (_REFUSED,) * len(node.output)
        elif len(results) < len(node.output) and any(node.output[len(results) :]):
            self._refuse(node, origin, f"its output '{named[-1]}' is not supported")
            results += (_REFUSED,) * (len(node.output) - len(results))
        scope.update({name: value for name, value in zip(node.output, results, strict=False) if name})

    def _results(
        self, node: onnx.NodeProto, values: Sequence[Value | None], scope: Scope, origin: Origin
    ) -> tuple[Value, ...]:
        """The values that a node makes; empty where it depends on something unsupported."""
        if not is_supported(node.domain, node.op_type, self._opset(node)):
            raise UnsupportedFormError(_advice(node))
        if _REFUSED in values:
            return ()
        if node.op_type == "If":
            return self._branch(node, values[0], scope)
        if node.op_type in sequences.OPERATORS:
            return (sequences.sequence_result(node, values, partial(self._compute, origin=origin)),)
        return self._compute(node, values, origin)

    def _compute(self, node: onnx.NodeProto, values: Sequence[Value | None], origin: Origin) -> tuple[Value, ...]:
        """Fold a node of the operator table, or make it a step."""
        operator = find_operator(node.domain, node.op_type, self._opset(node))
        assert operator is not None
        step = operator.bind(node, values, origin)
        try:
            return self._fold(node, step) or self._emit(node, step)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise UnsupportedFormError(_VALUE_DEPENDENT) from error
        except (UnsupportedFormError, UsageError):
            raise
        except Exception as error:
            given = ", ".join(described(value) for value in values if value is not None)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CaptureError(
                f"{self.file.name}: node '{origin.node}' ({node.op_type}, {origin.source}) does not take "
                f"({given}): {reason}"
            ) from error

    def _fold(self, node: onnx.NodeProto, step: Step) -> tuple[Value, ...]:
        """Compute a node at once if all its inputs are known and none is a weight; otherwise nothing."""
        if not all(value.known is not None and not value.weight for value in step.inputs):
            return ()
        with torch.no_grad():
            tensors = step(*(value.known for value in step.inputs))
        if node.op_type != "Constant" and any(tensor.numel() > LARGEST_FOLDED for tensor in tensors):
            return ()
        return tuple(
            Value(
                name, fake_like(tensor), tensor, weight=tensor.is_floating_point() and tensor.numel() > LARGEST_FOLDED
            )
            for name, tensor in zip(node.output, tensors, strict=False)
        )

    def _emit(self, node: onnx.NodeProto, step: Step) -> tuple[Value, ...]:
        """Make a node a step of the module, its results inferred on fake tensors."""
        with FAKE_MODE, torch.no_grad():
            tensors = step(*(value.fake for value in step.inputs))
        step.results = tuple(Value(name, tensor) for name, tensor in zip(node.output, tensors, strict=False))
        self.steps.append(step)
        return step.results

    def _branch(self, node: onnx.NodeProto, condition: Value | None, scope: Scope) -> tuple[Value, ...]:
        """Walk the branch that a known condition takes."""
        if condition is None or condition.known is None:
            raise UnsupportedFormError(_advice(node))
        wanted = "then_branch" if bool(condition.known.item()) else "else_branch"
        branch = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
        inner = scope.new_child()
        self._graph(branch, inner)
        return tuple(inner[item.name] for item in branch.output)

    def _refuse(self, node: onnx.NodeProto, origin: Origin, advice: str) -> None:
        operator = f"{node.domain or 'ai.onnx'}.{node.op_type}"
        self.refused.setdefault((operator, advice), []).append(origin)

    def _error(self) -> UnsupportedOperatorError:
        return UnsupportedOperatorError(
            f"the ONNX front end ({self.file.name})",
            [
                Unsupported(
                    operator,
                    tuple(origin.node for origin in origins),
                    tuple(dict.fromkeys(origin.source for origin in origins)),
                    advice,
                )
                for (operator, advice), origins in sorted(self.refused.items())
            ],
        )


def _advice(node: onnx.NodeProto) -> str:
    if node.op_type in _ADVICE:
        return _ADVICE[node.op_type]
    if node.domain:
        return f"operators of '{node.domain}' are not ONNX's own; export the model without the tool that put them in"
    near = difflib.get_close_matches(node.op_type, supported_operators(), n=1, cutoff=0.75)
    hint = f"the nearest supported operator is {near[0]}; " if near else ""
    return hint + "export with torch.onnx.export(dynamo=True, opset_version=20), which writes simpler operators"
