"""What this machine can do at most: the arithmetic of its best matrix product and the traffic of its memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Limit:
    """Measured peaks.

    Attributes:
        flops_per_second: float32, of a large matrix product.
        bytes_per_second: read and written, of a copy that no cache holds.
    """

    flops_per_second: float
    bytes_per_second: float

    def least_seconds(self, flops: int, moved_bytes: int) -> float:
        """No program that does so much work on this machine ends sooner (a roofline)."""
        return max(flops / self.flops_per_second, moved_bytes / self.bytes_per_second)

    def as_data(self) -> dict[str, float]:
        """The fields, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"Limit: {self.flops_per_second / 1e9:.0f} GFLOP/s (matrix product), "
            f"{self.bytes_per_second / 1e9:.1f} GB/s (copy)."
        )


def measure_limit(threads: int, size: int = 1024, copied_bytes: int = 2**27) -> Limit:
    """Measure the peaks with PyTorch's own kernels; the best of several runs."""
    import torch

    torch.set_num_threads(threads)
    left, right = torch.randn(size, size), torch.randn(size, size)
    source = torch.empty(copied_bytes, dtype=torch.uint8)
    target = torch.empty_like(source)
    product = _best(lambda: torch.mm(left, right))
    copy = _best(lambda: target.copy_(source))
    return Limit(2 * size**3 / product, 2 * copied_bytes / copy)


def _best(run: Callable[[], object], runs: int = 7) -> float:
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
