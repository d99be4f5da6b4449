"""Calling a Program like the model it was captured from: arguments in, the model's own nest of results out.

The states of a model (the buffers that it mutates) are explicit here. They may follow the user's positional arguments,
all of them in the order of the signature; without them each starts at its initial value. A model with states returns
``(result, states)``, where ``states`` maps each state's name to its new value, so that calls chain::

    result, states = call(x)
    result, states = call(x, *states.values())
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from penstock.passes.core.errors import UsageError
from penstock.passes.core.printer import short_type
from penstock.passes.core.program import Signature, TensorSpec
from penstock.passes.core.shapes import dtype_name, is_fake
from penstock.passes.core.structure import match, rebuild

_CPU = torch.device("cpu")


def bind(
    signature: Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    initial: Mapping[str, torch.Tensor],
    device: torch.device = _CPU,
) -> list[torch.Tensor]:
    """The flat inputs of a call: one tensor per input of the signature, checked.

    Args:
        args: tensors or numpy arrays, nested as at capture; the states may follow.
        kwargs: the keyword arguments of the capture, in any order. Without `args`: also one tensor per input of the
            signature, by the names there.
        initial: what each state starts at, by name.
        device: where the tensors shall lie.

    Raises:
        UsageError: a number, name, nest, shape or dtype differs; the message names the input.
    """
    positional, named = signature.arguments["tuple"][0]["tuple"], signature.arguments["tuple"][1]["dict"]
    specs = signature.inputs[: len(signature.inputs) - len(signature.states)]
    states = list(args[len(positional) :]) or [initial[name] for name in signature.states]
    if not args and set(kwargs) == {spec.name for spec in specs}:
        leaves = [kwargs[spec.name] for spec in specs]
    else:
        _check_count(signature, len(positional), len(args))
        if set(kwargs) != set(named):
            raise UsageError(f"expected the keyword arguments {_listed(named)}, got {_listed(kwargs)}")
        leaves = match({"tuple": positional}, tuple(args[: len(positional)]), _is_leaf, "args")
        leaves += match({"dict": named}, {name: kwargs[name] for name in named}, _is_leaf, "kwargs")
    return [as_tensor(spec, value, device) for spec, value in zip(signature.inputs, [*leaves, *states], strict=True)]


def nest(signature: Signature, outputs: Sequence[torch.Tensor]) -> Any:
    """The model's own result, filled with flat outputs; and a dict of the new states if the model has any."""
    count = len(signature.outputs) - len(signature.states)
    result = rebuild(signature.result, outputs[:count])
    if not signature.states:
        return result
    return result, dict(zip(signature.states, outputs[count:], strict=True))


def as_tensor(spec: TensorSpec, value: Any, device: torch.device = _CPU) -> torch.Tensor:
    """A torch tensor on a device, of the shape and dtype that the spec asks for; nothing is converted silently.

    Raises:
        UsageError: it is neither tensor nor array, or its shape or dtype differs.
    """
    tensor = _to_torch(spec.name, value).to(device)
    if (tuple(tensor.shape), tensor.dtype) != (spec.shape, spec.dtype):
        raise UsageError(
            f"input '{spec.name}': expected {short_type(dtype_name(spec.dtype), spec.shape)}, "
            f"got {short_type(dtype_name(tensor.dtype), tensor.shape)}; "
            f"shapes and dtypes are fixed at capture: convert the input, or capture the model anew"
        )
    return tensor


def _to_torch(name: str, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        if is_fake(value):
            raise UsageError(f"input '{name}' is a fake tensor: it has a shape but no data")
        return value.detach()
    if isinstance(value, (np.ndarray, np.generic)):
        try:
            return torch.from_numpy(np.require(value, requirements=("C", "W")))
        except (TypeError, ValueError) as error:
            raise UsageError(f"input '{name}': this numpy array does not become a tensor: {error}") from error
    raise UsageError(f"input '{name}': expected a tensor or a numpy array, got {type(value).__name__}")


def _is_leaf(value: Any) -> bool:
    return not isinstance(value, (Mapping, list, tuple))  # whether it is a tensor, `as_tensor` says by its name


def _check_count(signature: Signature, expected: int, given: int) -> None:
    allowed = {expected, expected + len(signature.states)}
    if given not in allowed:
        states = f", or {max(allowed)} with the states {', '.join(signature.states)}" if signature.states else ""
        inputs = ", ".join(spec.name for spec in signature.inputs)
        raise UsageError(f"expected {expected} positional argument(s){states}, got {given}; the inputs are {inputs}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(str, names)) or "(none)"
