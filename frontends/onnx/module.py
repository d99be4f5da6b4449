"""The torch module that an ONNX graph becomes: a list of steps, each one call of a torch function.

Everything that ONNX computes about shapes is settled when the module is built (see `importer`), so a step's arguments
are tensors and plain Python data, and `torch.export` sees no value that depends on data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from penstock.frontends.onnx.origin import Origin
from penstock.passes.core.program import attribute


@dataclass(eq=False)
class Value:
    """One tensor of an ONNX graph.

    Attributes:
        name: its name in the ONNX graph.
        fake: its shape and dtype.
        known: its data, if that does not depend on the model's inputs.
        weight: it is known, but it is what the model learned: it stays a named weight and is never folded.
        trained: it is a weight that training changes (a parameter; otherwise a buffer).
    """

    name: str
    fake: Tensor
    known: Tensor | None = None
    weight: bool = False
    trained: bool = False


@dataclass(eq=False)
class SequenceValue(Value):
    """Several tensors under one name; only sequence operators take it."""

    items: tuple[Value, ...] = ()


class Step(nn.Module):
    """One ONNX node as the call of a torch function.

    Args:
        function: takes `operands` in order and `attributes` by name, gives a tensor or a tuple of tensors.
        operands: a `Value` for each tensor, plain data for everything that is settled.
        origin: where the node comes from.
    """

    def __init__(
        self, function: Callable[..., Any], operands: Sequence[Any], attributes: dict[str, Any], origin: Origin
    ) -> None:
        super().__init__()
        self.function = function
        self.operands = tuple(operands)
        self.attributes = attributes
        self.origin = origin
        self.inputs = tuple(operand for operand in operands if isinstance(operand, Value))
        self.results: tuple[Value, ...] = ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Call the function on `tensors`, which stand for `inputs`."""
        given = iter(tensors)
        arguments = [next(given) if isinstance(operand, Value) else operand for operand in self.operands]
        result = self.function(*arguments, **self.attributes)
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)


class OnnxModule(nn.Module):
    """An ONNX graph as a module: its inputs are ONNX's in order; one output comes as a tensor, several as a tuple.

    Only the steps and tensors that the outputs need are kept. Weights and constants are parameters and buffers under
    their ONNX names, as far as those are legal names for torch.
    """

    def __init__(self, inputs: Sequence[Value], steps: Sequence[Step], outputs: Mapping[str, Value]) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.outputs = dict(outputs)
        needed = set(outputs.values())
        live: list[Step] = []
        for step in reversed(steps):
            if needed.intersection(step.results):
                live.append(step)
                needed.update(step.inputs)
        self.onnx_steps = nn.ModuleList(reversed(live))
        self.paths: dict[Value, str] = {}
        for value in [*(value for step in self.steps for value in step.inputs), *outputs.values()]:
            if value.known is not None and value not in self.paths:
                self.paths[value] = _register(self, value)

    @property
    def steps(self) -> list[Step]:
        """The steps in execution order."""
        return list(self.onnx_steps)  # type: ignore[arg-type]

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run all steps."""
        values = dict(zip(self.inputs, inputs, strict=True))
        values.update({value: attribute(self, path) for value, path in self.paths.items()})
        for step in self.steps:
            results = step(*(values[value] for value in step.inputs))
            values.update(zip(step.results, results, strict=False))
        outputs = tuple(values[value] for value in self.outputs.values())
        return outputs[0] if len(outputs) == 1 else outputs

    def step_at(self, path: str) -> Step | None:
        """The step whose module path below this module is `path`, or None."""
        name, _, index = path.partition(".")
        if name != "onnx_steps" or not index:
            return None
        step = self.onnx_steps[int(index)]
        assert isinstance(step, Step)
        return step


def _register(root: nn.Module, value: Value) -> str:
    """Register a known value as a parameter or buffer under its ONNX name, made legal and unique; returns the path."""
    assert value.known is not None
    tensor = value.known.contiguous()
    *parents, leaf = [part for part in re.sub(r"[^A-Za-z0-9_.]", "_", value.name).split(".") if part] or ["unnamed"]
    path: list[str] = []
    module = root
    for parent in parents:
        while not isinstance(getattr(module, parent, None), nn.Module) and hasattr(module, parent):
            parent += "_"
        if not hasattr(module, parent):
            module.add_module(parent, nn.Module())
        module = module.get_submodule(parent)
        path.append(parent)
    while hasattr(module, leaf):
        leaf += "_"
    if value.trained:
        module.register_parameter(leaf, nn.Parameter(tensor))
    else:
        module.register_buffer(leaf, tensor)
    return ".".join([*path, leaf])


def described(value: Value) -> str:
    """``x float32[1, 3, 8, 8]``: for messages."""
    return f"{value.name} {str(value.fake.dtype).removeprefix('torch.')}{list(value.fake.shape)}"
