from __future__ import annotations

from pathlib import Path

import pytest
import torch

from penstock.backends.targets import find_target
from penstock.backends.tvm.build import launches_of
from penstock.backends.tvm.lower import lower
from penstock.frontends.torch_export import capture_module
from penstock.passes.core.errors import UnsupportedOperatorError
from penstock.passes.core.shapes import fake_like
from tests.backends.tvm.execute import Function, runner_of
from tests.backends.tvm.op_cases import Built, case, numbered, program_of

aten = torch.ops.aten
torch.manual_seed(0)
X = torch.randn(4, 5, 6)
TABLE = torch.randn(10, 3)
AT = torch.tensor([[0, 9, 3], [2, 2, 7]])
ROWS = torch.tensor([3, 0, -1])
COLUMNS = torch.tensor([[1], [-5], [4], [0]])
ALONG = torch.randint(0, 5, (4, 3, 6))

CASES = numbered(
    [
        case(aten.embedding.default, TABLE, AT),
        case(aten.embedding.default, TABLE, AT.int()),
        case(aten.embedding.default, TABLE, torch.tensor(4), 0),
        case(aten.index_select.default, X, 1, torch.tensor([4, 0, 0])),
        case(aten.index_select.default, X, -1, torch.tensor(2)),
        case(aten.index_select.default, torch.tensor(3.0), 0, torch.tensor([0])),
        case(aten.gather.default, X, 1, ALONG),
        case(aten.gather.default, X, -1, ALONG[:2, :, :2]),
        case(aten.gather.default, torch.tensor(3.0), 0, torch.tensor(0)),
        case(aten.index.Tensor, X, [ROWS]),
        case(aten.index.Tensor, X, [None, ROWS]),
        case(aten.index.Tensor, X, [None, None, torch.tensor(-2)]),
        case(aten.index.Tensor, X, [ROWS, COLUMNS]),
        case(aten.index.Tensor, X, [ROWS, None, COLUMNS]),
        case(aten.index.Tensor, X, [None, ROWS, COLUMNS]),
        case(aten.index.Tensor, X, [ROWS, ROWS, ROWS.int()]),
    ]
)
CASES |= {"half": case(aten.embedding.default, TABLE.half(), AT)}


def test_positions_out_of_range_read_inside_the_tensor() -> None:
    wild = torch.tensor([-(2**40), -11, 10, 2**40])
    (rows,) = Built({"main": case(aten.embedding.default, TABLE, AT[0])}).run("main")
    built = Built({"main": case(aten.embedding.default, TABLE, torch.zeros(4, dtype=torch.int64))})
    (result,) = built.run("main", TABLE, wild)
    assert torch.equal(result, TABLE[[0, 0, 9, 9]])
    assert torch.equal(rows, TABLE[AT[0]])


def test_a_mask_as_index_is_refused() -> None:
    item = case(aten.index.Tensor, X, [ROWS])
    program = program_of({"main": item})
    node = next(node for node in program.graphs["main"].graph.nodes if node.op == "call_function")
    node.args[1][0].meta["val"] = fake_like(torch.tensor([True, False, True]))
    with pytest.raises(UnsupportedOperatorError, match="indexing by a mask") as error:
        lower(program)
    assert "torch.where" in str(error.value)


def test_repeated_positions_are_read_where_they_are(tmp_path: Path) -> None:
    def repeated(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return x.gather(2, positions.expand(4, -1, -1))

    args = torch.randn(4, 3, 5), torch.tensor([[[0, 4], [1, 1], [3, 2]]])
    program = capture_module(Function(repeated), args)
    (result,) = runner_of(program, tmp_path).run(args)
    assert torch.equal(result, repeated(*args))
    launches = launches_of(program, find_target("llvm"))
    (nest,) = launches.table.nests.values()
    assert (1, 3, 2) in [buffer.shape for buffer in nest.buffers]


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)
