"""16-bit floats of the simulator are IEEE's: compared with torch's, bit by bit."""

from __future__ import annotations

import torch

from tests.backends.simulator.kernels import metal, simulate

EVERY = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
GRID = (2048, 1, 1)
HERE = "int i = ((int)blockIdx) * 32 + ((int)threadIdx);\n"


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal bits, but for those of NaN."""
    return torch.equal(found.nan_to_num(nan=1.5), expected.nan_to_num(nan=1.5)) and torch.equal(
        found.isnan(), expected.isnan()
    )


def test_every_half_becomes_its_float() -> None:
    source = metal(HERE + "y[i] = ((float)x[i]);", "half* x", "float* y")
    (found,) = simulate("metal", source, [EVERY], [torch.empty(65536)], GRID)
    assert same(found, EVERY.float())


def test_floats_round_to_the_nearest_half_and_ties_to_even() -> None:
    torch.manual_seed(0)
    anything = torch.randint(-(2**31), 2**31 - 1, (32768,), dtype=torch.int64).to(torch.int32).view(torch.float32)
    finite = EVERY[EVERY.isfinite()].float()
    ties = ((finite[:-1] + finite[1:]) / 2)[:: len(finite) // 16384][:16384]
    within = torch.randn(65536 - 32768 - len(ties)) * torch.logspace(-9, 5, 65536 - 32768 - len(ties))
    values = torch.cat([anything, ties, within])
    source = metal(HERE + "y[i] = ((half)x[i]);", "float* x", "half* y")
    (found,) = simulate("metal", source, [values], [torch.empty(65536).half()], GRID)
    assert same(found, values.half())


def test_operations_round_once() -> None:
    torch.manual_seed(0)
    other = EVERY[torch.randperm(65536)]
    body = HERE + "s[i] = (x[i] + y[i]);\np[i] = (x[i] * y[i]);\nq[i] = (x[i] / y[i]);\nr[i] = sqrt(x[i]);"
    source = metal(body, "half* x", "half* y", "half* s", "half* p", "half* q", "half* r")
    found = simulate("metal", source, [EVERY, other], [torch.empty(65536).half()] * 4, GRID)
    x, y = EVERY.double(), other.double()  # exact, or rounded where it cannot matter
    for result, expected in zip(found, (x + y, x * y, x / y, x.sqrt()), strict=True):
        assert same(result, expected.half())
