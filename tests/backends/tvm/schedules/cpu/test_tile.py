from __future__ import annotations

import pytest
import tvm

from penstock.backends.tvm.schedules.cpu.tile import Registers, Tile, best_tile, flat, tile_cycles, unravel, vectors_of

AVX512, AVX2, NEON = Registers(16, 32), Registers(8, 16), Registers(4, 32)


@pytest.mark.parametrize(
    ("target", "registers"),
    [
        ({"kind": "llvm", "mcpu": "sapphirerapids"}, AVX512),
        ({"kind": "llvm", "mcpu": "haswell"}, AVX2),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu"}, NEON),
        ({"kind": "llvm", "mtriple": "arm64-apple-ios15.0"}, NEON),
    ],
)
def test_registers_are_those_of_the_target(target: dict[str, str], registers: Registers) -> None:
    assert Registers.of(tvm.target.Target(target)) == registers


@pytest.mark.parametrize("registers", [AVX512, AVX2, NEON])
@pytest.mark.parametrize("rows", [1, 3, 8, 14, 64, 77, 320])
@pytest.mark.parametrize("columns", [1, 16, 33, 600])
def test_a_tile_fits_the_registers_and_none_is_better(registers: Registers, rows: int, columns: int) -> None:
    tile = best_tile(rows, columns, registers)
    count = len(tile.vectors)
    assert tile.rows <= rows
    assert tile.rows * count + count + 1 <= registers.count
    chosen = tile_cycles(rows, columns, (tile.rows, count), registers)
    for r in range(1, rows + 1):
        for v in (1, 2, 3):
            if r * v + v + 1 <= registers.count:
                assert chosen <= tile_cycles(rows, columns, (r, v), registers)


def test_arithmetic_limits_a_large_tile_and_latency_a_small_one() -> None:
    assert tile_cycles(14, 32, (14, 2), AVX512) == 14  # 28 multiply-adds, two a cycle
    assert tile_cycles(1, 32, (1, 2), AVX512) == 4  # the latency of one
    assert tile_cycles(15, 33, (14, 2), AVX512) == 4 * 14  # ragged in both directions


def test_columns_in_vectors() -> None:
    assert vectors_of(40, 16) == (16, 16, 8)
    assert list(Tile(2, (16, 8)).starts()) == [(0, 0, 16), (1, 16, 8)]


def test_positions_there_and_back() -> None:
    shape = (3, 4, 5)
    assert [flat([int(at) for at in unravel(n, shape)], shape) for n in range(60)] == list(range(60))
