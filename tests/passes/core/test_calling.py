from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from penstock.passes.core.calling import bind, nest
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Signature, TensorSpec
from penstock.passes.core.shapes import FAKE_MODE
from penstock.passes.core.structure import structure_of

X, Y, FLAG = torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64), torch.zeros((), dtype=torch.bool)
STATE = torch.zeros(5)


@pytest.fixture
def signature() -> Signature:
    """`model(x, {"y": y}, 3, flag=flag)` with the state `k`, which returns `(result, [result])`."""
    inputs = {"x": X, "y": Y, "flag": FLAG, "k": STATE}
    specs = [TensorSpec(name, tuple(tensor.shape), tensor.dtype) for name, tensor in inputs.items()]
    outputs = [TensorSpec(name, (1,), torch.float32) for name in ("output_0", "output_1", "k_next")]
    arguments = structure_of(((X, {"y": Y}, 3), {"flag": FLAG}))
    return Signature(tuple(specs), tuple(outputs), arguments, structure_of((X, [X])), ("k",))


def call(signature: Signature, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
    return bind(signature, args, kwargs, {"k": STATE})


def refusal(signature: Signature, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(UsageError) as caught:
        call(signature, *args, **kwargs)
    return str(caught.value)


def test_nested_as_at_capture(signature: Signature) -> None:
    assert [tuple(tensor.shape) for tensor in call(signature, X, {"y": Y}, 3, flag=FLAG)] == [(2, 3), (4,), (), (5,)]


def test_states_start_at_their_initial_value_or_follow(signature: Signature) -> None:
    assert call(signature, X, {"y": Y}, 3, flag=FLAG)[-1] is not None
    assert torch.equal(call(signature, X, {"y": Y}, 3, flag=FLAG)[-1], STATE)
    assert torch.equal(call(signature, X, {"y": Y}, 3, STATE + 1, flag=FLAG)[-1], STATE + 1)


def test_by_the_names_of_the_signature(signature: Signature) -> None:
    assert torch.equal(call(signature, flag=~FLAG, y=Y, x=X + 1)[0], X + 1)


def test_numpy_arrays_of_any_layout(signature: Signature) -> None:
    turned = np.arange(6, dtype=np.float32).reshape(3, 2).T
    frozen = np.zeros(4, dtype=np.int64)
    frozen.flags.writeable = False
    bound = call(signature, turned, {"y": frozen[::-1]}, 3, flag=np.bool_(True))
    assert torch.equal(bound[0], torch.tensor(turned.copy()))
    assert bound[2].item() is True


def test_gradients_are_cut(signature: Signature) -> None:
    assert not call(signature, X.clone().requires_grad_(), {"y": Y}, 3, flag=FLAG)[0].requires_grad


def test_wrong_number(signature: Signature) -> None:
    expected = "expected 3 positional argument(s), or 4 with the states k, got {}; the inputs are x, y, flag, k"
    assert refusal(signature, X, flag=FLAG) == expected.format(1)
    assert refusal(signature, X, {"y": Y}, 3, STATE, STATE, flag=FLAG) == expected.format(5)


def test_wrong_names(signature: Signature) -> None:
    assert refusal(signature, X, {"y": Y}, 3) == "expected the keyword arguments flag, got (none)"
    assert refusal(signature, X, {"y": Y}, 3, flag=FLAG, z=X) == "expected the keyword arguments flag, got flag, z"
    assert refusal(signature, X, {"z": Y}, 3, flag=FLAG) == "args[1]: expected the keys ['y'], got the keys ['z']"


def test_changed_constant(signature: Signature) -> None:
    assert refusal(signature, X, {"y": Y}, 4, flag=FLAG).startswith("args[2]: was 3 at capture and is part of the")


def test_wrong_shape(signature: Signature) -> None:
    message = refusal(signature, X[:1], {"y": Y}, 3, flag=FLAG)
    assert message.startswith("input 'x': expected f32[2, 3], got f32[1, 3]; shapes and dtypes are fixed at capture")


def test_wrong_dtype(signature: Signature) -> None:
    assert refusal(signature, X.double(), {"y": Y}, 3, flag=FLAG).startswith(
        "input 'x': expected f32[2, 3], got f64[2, 3]"
    )
    assert refusal(signature, X, {"y": np.zeros(4, np.int32)}, 3, flag=FLAG).startswith(
        "input 'y': expected i64[4], got i32[4]"
    )


@pytest.mark.parametrize("value", [3, "x", None, object()])
def test_no_tensor(signature: Signature, value: Any) -> None:
    expected = f"input 'x': expected a tensor or a numpy array, got {type(value).__name__}"
    assert refusal(signature, value, {"y": Y}, 3, flag=FLAG) == expected


def test_an_array_without_a_torch_dtype(signature: Signature) -> None:
    message = refusal(signature, np.array(["a", "b"]), {"y": Y}, 3, flag=FLAG)
    assert message.startswith("input 'x': this numpy array does not become a tensor: ")


def test_a_fake_tensor(signature: Signature) -> None:
    with FAKE_MODE:
        fake = torch.empty(2, 3)
    assert refusal(signature, fake, {"y": Y}, 3, flag=FLAG) == "input 'x' is a fake tensor: it has a shape but no data"


def test_results_nest_and_states_stand_beside_them(signature: Signature) -> None:
    one, two, state = torch.ones(1), torch.ones(1) * 2, torch.ones(1) * 3
    assert nest(signature, (one, two, state)) == ((one, [two]), {"k": state})
