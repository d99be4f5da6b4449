"""A loaded artifact: call it like the model it was compiled from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from penstock.backends.artifact import Artifact
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Signature, TensorSpec
from penstock.passes.core.shapes import dtype_name
from penstock.passes.core.structure import match, rebuild
from penstock.passes.core.verify import Difference, compare


class LoadedModel:
    """An artifact, ready to run on this machine.

    Attributes:
        artifact: what it was loaded from.
        signature: names, shapes and dtypes of inputs and outputs.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.signature: Signature = artifact.manifest.program_signature()
        self._plan = artifact.manifest.program_plan()
        target = artifact.target
        if not target.runs_here:
            raise UsageError(
                f"{artifact.path} was compiled for {target.name} ({target.description.rstrip('.')}) and cannot run on "
                f"this machine; compile with --target llvm to run here"
            )
        from penstock.backends.tvm.build import LIBRARY
        from penstock.backends.tvm.vm import Executable

        weights = artifact.weights()
        self._executable = Executable(artifact.path / LIBRARY, artifact.manifest.functions, weights)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Args:
            args: what the captured model takes, with torch tensors or numpy arrays. The model's states may follow, in
                the order of ``signature.states``; they start at their captured values otherwise.
            kwargs: likewise.

        Returns:
            Torch tensors, nested as in the model's own result; for a model with states, that and a dict of their new
            values.

        Raises:
            UsageError: an argument has another shape, dtype or nesting than at capture.
        """
        flat = bind(self.signature, args, kwargs)
        if len(flat) < len(self.signature.inputs):
            initial = self.examples()
            flat += [initial[spec.name] for spec in self.signature.inputs[len(flat) :]]
        return nest(self.signature, self.run(flat))

    def run(self, inputs: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """The outputs for one tensor or array per input, both in the order of the signature."""
        if len(inputs) != len(self.signature.inputs):
            raise UsageError(f"expected {len(self.signature.inputs)} input(s), got {len(inputs)}")
        values = {
            spec.name: as_tensor(spec, value) for spec, value in zip(self.signature.inputs, inputs, strict=True)
        }
        for op in self._plan.ops():
            results = self._executable.call(op.graph, [values[name] for name in op.args])
            values.update(zip(op.results, results, strict=True))
        return tuple(values[spec.name] for spec in self.signature.outputs)

    def examples(self) -> dict[str, torch.Tensor]:
        """The inputs that the model was captured with, by name."""
        return _part(self.artifact, "input:")

    def verify(self, tolerance: float | None = None) -> list[Difference]:
        """Run the example inputs and compare with what PyTorch eager gave at capture, output by output."""
        examples, expected = self.examples(), _part(self.artifact, "expected:")
        outputs = self.run([examples[spec.name] for spec in self.signature.inputs])
        return [
            compare(spec.name, expected[spec.name], output, tolerance)
            for spec, output in zip(self.signature.outputs, outputs, strict=True)
        ]


def _part(artifact: Artifact, prefix: str) -> dict[str, torch.Tensor]:
    tensors = artifact.tensors("check.safetensors")
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def bind(signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The flat inputs of a call: nested as the model was captured, or one tensor per input; states may follow.

    Raises:
        UsageError: they fit neither way.
    """
    user = len(signature.inputs) - len(signature.states)
    if not kwargs and all(map(_is_tensor, args)) and len(args) in (user, user + len(signature.states)):
        return list(args)
    if kwargs and not args and set(kwargs) == {spec.name for spec in signature.inputs[:user]}:
        return [kwargs[spec.name] for spec in signature.inputs[:user]]
    positional = len(signature.arguments["tuple"][0].get("tuple", ()))
    states = list(args[positional:])
    if states and len(states) != len(signature.states):
        raise UsageError(f"expected {positional} argument(s){_and_states(signature)}, got {len(args)}")
    return match(signature.arguments, (tuple(args[:positional]), dict(kwargs)), _is_tensor, "call") + states


def nest(signature: Signature, outputs: Sequence[torch.Tensor]) -> Any:
    """The result of a call as the model nests it, with the new states beside it if it has any."""
    user = len(outputs) - len(signature.states)
    result = rebuild(signature.result, outputs[:user])
    return (result, dict(zip(signature.states, outputs[user:], strict=True))) if signature.states else result


def as_tensor(spec: TensorSpec, value: Any) -> torch.Tensor:
    """A torch tensor of the shape and dtype that the signature asks for; nothing is converted silently."""
    tensor = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
    if isinstance(value, np.ndarray):
        tensor = tensor.reshape(value.shape)
    if not isinstance(tensor, torch.Tensor):
        raise UsageError(f"input '{spec.name}': expected a tensor or a numpy array, got {type(value).__name__}")
    if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.dtype:
        raise UsageError(
            f"input '{spec.name}': expected {dtype_name(spec.dtype)}{list(spec.shape)}, "
            f"got {dtype_name(tensor.dtype)}{list(tensor.shape)}"
        )
    return tensor


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray, np.generic))


def _and_states(signature: Signature) -> str:
    return f" and the states {', '.join(signature.states)}" if signature.states else ""
