from __future__ import annotations

import pytest
import torch

from penstock.backends.plan.launches import Launch
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import launches_of
from penstock.frontends.torch_export import capture_module
from tests.backends.tvm.execute import Function
from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
X = torch.arange(120, dtype=torch.float32).reshape(2, 3, 4, 5)
V = torch.arange(7)
S = torch.tensor(4.0)

CASES = numbered(
    [
        case(aten.view.default, X, [6, 20]),
        case(aten.view.default, X, [-1]),
        case(aten._unsafe_view.default, X, [2, 12, 5]),
        case(aten.reshape.default, X, [2, 60]),
        case(aten.view.default, S, [1, 1]),
        case(aten.permute.default, X, [0, 3, -3, 2]),
        case(aten.permute.default, X, [0, 1, 2, 3]),
        case(aten.transpose.int, X, 1, -1),
        case(aten.transpose.int, S, 0, -1),
        case(aten.t.default, X[0, 0]),
        case(aten.t.default, V),
        case(aten.expand.default, X[:, :1], [2, 6, -1, 5]),
        case(aten.expand.default, V, [3, 7]),
        case(aten.unsqueeze.default, X, -1),
        case(aten.squeeze.dim, X[:1], 0),
        case(aten.squeeze.dim, X, 0),
        case(aten.squeeze.dims, X[:1, :1], [0, 1, 2]),
        case(aten.squeeze.default, X[:1, :, :1]),
        case(aten.clone.default, X),
        case(aten.contiguous.default, X),
        case(aten.select.int, X, 1, 2),
        case(aten.select.int, X, -1, -2),
        case(aten.select.int, V, 0, -7),
        case(aten.slice.Tensor, X, 2, 1, 3),
        case(aten.slice.Tensor, X, -1, 0, 9223372036854775807, 2),
        case(aten.slice.Tensor, X, 3, -4, -1, 2),
        case(aten.slice.Tensor, X, 0),
        case(aten.slice.Tensor, V, 0, -100, 100),
        case(aten.split.Tensor, X, 2, -1),
        case(aten.split.Tensor, X, 3, 1),
        case(aten.split_with_sizes.default, X, [1, 3, 1], 3),
        case(aten.chunk.default, X, 2, 2),
        case(aten.chunk.default, V, 4),
        case(aten.unbind.int, X, 1),
        case(aten.cat.default, [X, X * 2], 1),
        case(aten.cat.default, [X, X[..., :2], X], -1),
        case(aten.cat.default, [torch.zeros(0), S.reshape(1), torch.ones(2)]),
        case(aten.cat.default, [V, S.reshape(1)]),
        case(aten.stack.default, [X, X + 1], 2),
        case(aten.stack.default, [S, S], 0),
        case(aten.stack.default, [X, X], -1),
        case(aten.repeat.default, X, [1, 2, 1, 3]),
        case(aten.repeat.default, V, [2, 3]),
        case(aten.repeat.default, V, [1, 1]),
        case(aten.flip.default, X, [0, -1]),
        case(aten.roll.default, X, [1, -2], [1, 3]),
        case(aten.roll.default, torch.randn(1, 16, 16, 16), [2, 2], [1, 2]),
        case(aten.roll.default, X, [7]),
        case(aten.roll.default, X, [1, 1], [0, 0]),
    ]
)


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)


def test_reshapes_in_a_row_copy_nothing() -> None:
    def chain(x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(3).reshape(6, 20).reshape(3, 40).reshape(2, 60).cumsum(1)

    program = capture_module(Function(chain), (X,))
    (body,) = launches_of(program, find_target("llvm")).bodies.values()
    assert sum(isinstance(op, Launch) for op in body.ops) == 2, "the two sums"
