"""Calling a Program like the model it was captured from: arguments in, the model's own nest of results out.

The states of a model (the buffers that it mutates) are explicit here. They may follow the user's positional arguments,
all of them in the order of the signature; without them each starts at its initial value. A model with states returns
``(result, states)``, where ``states`` maps each state's name to its new value, so that calls chain::

    result, states = call(x)
    result, states = call(x, *states.values())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from penstock.passes.core.errors import UsageError
from penstock.passes.core.printer import short_type
from penstock.passes.core.program import Signature, TensorSpec
from penstock.passes.core.shapes import dtype_name, is_fake
from penstock.passes.core.structure import match, rebuild


def bind(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any], initial: Mapping[str, torch.Tensor]
) -> list[torch.Tensor]:
    """The flat inputs of a call: one tensor per input of the signature, checked.

    Args:
        args: tensors or numpy arrays, nested as the model takes them; the states may follow.
        kwargs: the same by keyword, in any order.
        initial: what each state starts at, by name.

    Raises:
        UsageError: a number, name, nest, shape or dtype differs; the message names the input.
    """
    positional, names = signature.arguments["tuple"]
    expected = len(positional["tuple"])
    states = args[expected:] or [initial[name] for name in signature.states]
    if len(args) < expected or len(states) != len(signature.states):
        raise UsageError(f"expected {_expected(signature, expected)}, got {len(args)} positional argument(s)")
    if set(kwargs) != set(names["dict"]):
        raise UsageError(f"expected the keyword arguments {_named(names['dict'])}, got {_named(kwargs)}")
    leaves = match(positional, tuple(args[:expected]), _is_array, "args")
    leaves += match(names, {name: kwargs[name] for name in names["dict"]}, _is_array, "kwargs")
    return [_checked(spec, leaf) for spec, leaf in zip(signature.inputs, [*leaves, *states], strict=True)]


def nest(signature: Signature, outputs: Sequence[torch.Tensor]) -> Any:
    """The model's own result filled with flat outputs; with a dict of the new states if the model has any."""
    count = len(signature.outputs) - len(signature.states)
    result = rebuild(signature.result, outputs[:count])
    if not signature.states:
        return result
    return result, dict(zip(signature.states, outputs[count:], strict=True))


def _is_array(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray, np.generic))


def _checked(spec: TensorSpec, value: Any) -> torch.Tensor:
    tensor = _tensor(spec, value)
    if (tuple(tensor.shape), tensor.dtype) != (spec.shape, spec.dtype):
        raise UsageError(
            f"input '{spec.name}': expected {short_type(dtype_name(spec.dtype), spec.shape)}, "
            f"got {short_type(dtype_name(tensor.dtype), tensor.shape)}; "
            f"shapes and dtypes are fixed at capture, so convert the input or capture the model again"
        )
    return tensor


def _tensor(spec: TensorSpec, value: Any) -> torch.Tensor:
    if not _is_array(value):
        raise UsageError(f"input '{spec.name}': expected a tensor, got {type(value).__name__}")
    if not isinstance(value, torch.Tensor):
        try:
            value = torch.from_numpy(np.require(value, requirements=("C", "W")))
        except (TypeError, ValueError) as error:
            raise UsageError(f"input '{spec.name}': the numpy array does not become a tensor: {error}") from error
    if is_fake(value):
        raise UsageError(f"input '{spec.name}' is a fake tensor: it has a shape but no data")
    return value.detach().to("cpu")


def _expected(signature: Signature, count: int) -> str:
    text = f"{count} positional argument(s)"
    if signature.states:
        text += f", or {count + len(signature.states)} with the states {', '.join(signature.states)}"
    return text


def _named(names: Mapping[str, Any]) -> str:
    return ", ".join(map(str, names)) or "(none)"
