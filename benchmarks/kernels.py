"""penstock's CPU kernels against PyTorch eager, torch.compile and ONNX Runtime, operator by operator.

::

    python -m benchmarks.kernels                               # all operators, all contenders
    python -m benchmarks.kernels --kernel "conv 3x3" --contender "penstock llvm" --contender onnxruntime

Each operator is a model of its own, so a time holds what a call costs besides: a few microseconds, and the copies of
its inputs and outputs where a runtime makes them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contenders import CONTENDERS, prepare
from benchmarks.harness import RESULTS, table, write_results
from benchmarks.limit import measure_limit
from benchmarks.models import Row, as_data, measure
from penstock.backends.cores import cores

Case = tuple[nn.Module, tuple[Tensor, ...]]


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        """Call it."""
        return self.function(*args)


def _layer(layer: nn.Module, *shape: int) -> Case:
    return layer, (torch.randn(shape),)


def _function(function: Callable[..., Tensor], *shapes: tuple[int, ...]) -> Case:
    return Function(function), tuple(torch.randn(shape) for shape in shapes)


def _attention(heads: int, batch: int, queries: int, keys: int, width: int) -> Case:
    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        made = nn.functional.scaled_dot_product_attention(split(query), split(key), split(value))
        return made.transpose(1, 2).flatten(2)

    size = heads * width
    return _function(attend, (batch, queries, size), (batch, keys, size), (batch, keys, size))


KERNELS: dict[str, Callable[[], Case]] = {
    "conv 3x3": lambda: _layer(nn.Conv2d(64, 64, 3, padding=1), 8, 64, 24, 24),
    "conv 3x3, small image": lambda: _layer(nn.Conv2d(256, 128, 3, padding=1), 8, 256, 6, 6),
    "conv 3x3, large": lambda: _layer(nn.Conv2d(320, 320, 3, padding=1), 1, 320, 40, 64),
    "conv 1x1": lambda: _layer(nn.Conv2d(128, 64, 1), 8, 128, 24, 24),
    "conv 3x3 stride 2": lambda: _layer(nn.Conv2d(64, 64, 3, stride=2, padding=1), 8, 64, 24, 24),
    "conv 16x16 stride 16": lambda: _layer(nn.Conv2d(3, 192, 16, stride=16), 1, 3, 224, 224),
    "depthwise 3x3": lambda: _layer(nn.Conv2d(64, 64, 3, padding=1, groups=64), 8, 64, 56, 56),
    "conv 3x1x1": lambda: _layer(nn.Conv3d(64, 64, (3, 1, 1), padding=(1, 0, 0)), 1, 64, 8, 24, 24),
    "conv 3x3x3": lambda: _layer(nn.Conv3d(32, 32, 3, padding=1), 1, 32, 8, 16, 16),
    "linear 4608x64x512": lambda: _layer(nn.Linear(64, 512), 4608, 64),
    "linear 1152x1280x320": lambda: _layer(nn.Linear(1280, 320), 1152, 1280),
    "linear 577x384x384": lambda: _layer(nn.Linear(384, 384), 577, 384),
    "linear 1x2048x2048": lambda: _layer(nn.Linear(2048, 2048), 1, 2048),
    "self-attention 576": lambda: _attention(heads=2, batch=8, queries=576, keys=576, width=32),
    "self-attention 197": lambda: _attention(heads=12, batch=1, queries=197, keys=197, width=64),
    "cross-attention 1024x77": lambda: _attention(heads=8, batch=1, queries=1024, keys=77, width=64),
    "temporal attention 8": lambda: _attention(heads=2, batch=576, queries=8, keys=8, width=32),
    "layer norm": lambda: _layer(nn.LayerNorm(320), 1152, 320),
    "group norm, silu": lambda: _layer(nn.Sequential(nn.GroupNorm(32, 64), nn.SiLU()), 8, 64, 24, 24),
    "softmax": lambda: _function(lambda x: x.softmax(-1), (1024, 1024)),
    "gated gelu": lambda: _function(lambda x: x.chunk(2, -1)[0] * nn.functional.gelu(x.chunk(2, -1)[1]), (8, 576, 512)),
    "transposition": lambda: _function(lambda x: x.transpose(1, 2).contiguous(), (8, 64, 576)),
    "concatenation": lambda: _function(lambda x, y: torch.cat([x, y], 1), (8, 64, 24, 24), (8, 64, 24, 24)),
}
"""By the names of the table."""


def moved_bytes(case: Case) -> int:
    """Bytes of inputs, weights and output, each once."""
    module, args = case
    with torch.no_grad():
        tensors = [*args, *module.parameters(), module(*args)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def describe(results: dict[str, tuple[float, list[Row]]]) -> str:
    """A line per operator: the first contender's time and share of the limit, and its time over each other's."""
    names = [row.timing.name for row in next(iter(results.values()))[1]]
    header = ("operator", f"{names[0]} us", "of the limit", *(f"over {name}" for name in names[1:]), "max error")
    lines = []
    for name, (least, rows) in results.items():
        first, *others = rows
        ratios = [f"{first.timing.ratio_to(other.timing):.2f}" for other in others]
        median = first.timing.median
        lines.append((name, f"{median * 1e6:.0f}", f"{least / median:.0%}", *ratios, f"{first.error:.1e}"))
    return table(header, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(prog="benchmarks.kernels", description=__doc__.partition("\n")[0])
    parser.add_argument("--kernel", action="append", choices=list(KERNELS), help="default: all")
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="default: all")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--quick", action="store_true", help="two operators, 3 rounds: whether it works at all")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write")
    options = parser.parse_args(arguments)
    kernels = options.kernel or (["linear 1x2048x2048", "layer norm"] if options.quick else list(KERNELS))
    rounds = 3 if options.quick else options.rounds

    limit = measure_limit(options.threads)
    data: dict[str, Any] = {"threads": options.threads, "rounds": rounds, "limit": limit.as_data(), "kernels": {}}
    results: dict[str, tuple[float, list[Row]]] = {}
    for name in kernels:
        print(name, file=sys.stderr)
        torch.manual_seed(0)
        case = KERNELS[name]()
        case[0].eval()
        with tempfile.TemporaryDirectory() as folder:
            figures = prepare(*case, Path(folder))
            rows, failures = measure(options.contender or list(CONTENDERS), Path(folder), rounds, options.threads)
        data["kernels"][name] = as_data(figures, rows, failures)
        results[name] = limit.least_seconds(int(figures["flops"]), moved_bytes(case)), rows
    text = f"{options.threads} thread(s), {rounds} rounds. {limit}\n\n{describe(results)}"
    print(f"\n{text}", flush=True)
    write_results("kernels", data, text, options.results)


if __name__ == "__main__":
    main()
