from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.cpu.together import Case, Outcome, kernels_of, run


def heads(count: int, causal: bool = False):  # type: ignore[no-untyped-def]
    """Attention whose operands and result are permuted views."""

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (count, -1)).transpose(1, 2)

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        made = nn.functional.scaled_dot_product_attention(
            split(q), split(k), split(v), attn_mask=mask, is_causal=causal
        )
        return made.transpose(1, 2).flatten(2)

    return Function(attend)


def cases() -> dict[str, Case]:
    torch.manual_seed(0)

    def qkv(batch: int, queries: int, keys: int, width: int, value: int | None = None) -> tuple[Tensor, ...]:
        sizes = [(queries, width), (keys, width), (keys, value or width)]
        return tuple(torch.randn(batch, *size) for size in sizes)

    hidden = torch.zeros(20, 50)
    hidden[3] = float("-inf")
    return {
        "few queries": (heads(2), qkv(2, 5, 7, 16)),
        "one query": (heads(2), qkv(2, 1, 7, 16)),
        "one key": (heads(2), qkv(1, 8, 1, 10)),
        "ragged blocks": (heads(2), qkv(1, 77, 300, 16)),
        "another width of values": (heads(2), qkv(2, 40, 7, 16, 24)),
        "causal": (heads(2, causal=True), qkv(1, 200, 200, 16)),
        "a mask for each key": (heads(2), (*qkv(2, 20, 50, 16), torch.randn(2, 1, 1, 50))),
        "a hidden row": (heads(2), (*qkv(2, 20, 50, 16), hidden)),
        "large scores": (heads(1), tuple(30 * x for x in qkv(1, 20, 50, 16))),
        "half": (heads(2), tuple(x.half() for x in qkv(2, 20, 50, 16))),
    }


NAMES = list(cases())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(cases(), tmp_path_factory.mktemp("attention"))


@pytest.mark.parametrize("name", NAMES)
def test_equals_eager(name: str, outcome: Outcome) -> None:
    assert outcome.error(name) < (2e-2 if name == "half" else 1e-5)


def test_queries_go_in_lanes_unless_there_are_few() -> None:
    many = kernels_of(heads(2), *(torch.randn(1, 32, 16) for _ in range(3)))
    few = kernels_of(heads(2), *(torch.randn(1, 2, 16) for _ in range(3)))
    assert sum('T.sblock("tile")' in source for source in many) == 1
    assert not any('T.sblock("tile")' in source for source in few)
