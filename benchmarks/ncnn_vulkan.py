"""ncnn's Vulkan kernels against ours on OpenCL, on the same processor: Mesa's lavapipe and PoCL both run on the CPU.

::

    apt install mesa-vulkan-drivers && pip install ncnn
    python -m benchmarks.ncnn_vulkan --keep

Chains of layers of one kind, in float32 and with the same weights, from the input in memory to the output in memory:
ncnn's times are those of its extractor, ours of the runner. On a machine with a GPU whose drivers have both, the same
command compares there.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness import Timed, alternate, table, write_results
from penstock.backends.runner import opencl_devices
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.backends.tvm.standalone import load_compiled
from penstock.frontends.torch_export import capture_module

DEPTH = 6
"""Layers of a chain, so that copying its ends does not count much."""
CHAINS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution 3 × 3, 32 channels, 32 × 32": (lambda: nn.Conv2d(32, 32, 3, padding=1), (1, 32, 32, 32)),
    "convolution 3 × 3, 64 channels, 64 × 64": (lambda: nn.Conv2d(64, 64, 3, padding=1), (1, 64, 64, 64)),
    "convolution 1 × 1, 128 channels, 32 × 32": (lambda: nn.Conv2d(128, 128, 1), (1, 128, 32, 32)),
    "depthwise 3 × 3, 64 channels, 64 × 64": (lambda: nn.Conv2d(64, 64, 3, padding=1, groups=64), (1, 64, 64, 64)),
    "linear, 256 rows, 256 wide": (lambda: nn.Linear(256, 256), (256, 256)),
}


def chain(make: Callable[[], nn.Module]) -> nn.Sequential:
    """Layers one after the other, each with weights that keep numbers moderate."""
    torch.manual_seed(0)
    return nn.Sequential(*(make() for _ in range(DEPTH))).eval()


def ncnn_contender(ncnn: Any, layers: nn.Sequential, example: torch.Tensor) -> tuple[Callable[[], torch.Tensor], Any]:
    """A function that runs the chain, and what has to live as long."""
    lines, weights = ["7767517", f"{DEPTH + 1} {DEPTH + 1}", "Input input 0 1 b0"], b""
    for index, layer in enumerate(layers):
        lines.append(f"{_line(layer, index)}")
        weights += b"\0\0\0\0" + layer.weight.detach().numpy().tobytes() + layer.bias.detach().numpy().tobytes()
    net = ncnn.Net()
    net.opt.use_vulkan_compute = True
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
        setattr(net.opt, f"use_{name}", False)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "chain.param").write_text("\n".join(lines) + "\n")
        (Path(folder) / "chain.bin").write_bytes(weights)
        net.load_param(str(Path(folder) / "chain.param"))
        net.load_model(str(Path(folder) / "chain.bin"))
    held = (example[0] if example.dim() == 4 else example).numpy()

    def run() -> torch.Tensor:
        extractor = net.create_extractor()
        extractor.input("b0", ncnn.Mat(held).clone())
        return torch.from_numpy(extractor.extract(f"b{DEPTH}")[1].numpy().copy()).reshape(example.shape)

    return run, net


def _line(layer: Any, index: int) -> str:
    """A layer in ncnn's text: kind, name, one input, one output, parameters by number."""
    ends = f"layer{index} 1 1 b{index} b{index + 1}"
    if isinstance(layer, nn.Linear):
        return f"InnerProduct {ends} 0={layer.out_features} 1=1 2={layer.weight.numel()}"
    numbers = f"0={layer.out_channels} 1={layer.kernel_size[0]} 4={layer.padding[0]} 5=1 6={layer.weight.numel()}"
    grouped = layer.groups > 1
    return f"Convolution{'DepthWise' if grouped else ''} {ends} {numbers}{f' 7={layer.groups}' if grouped else ''}"


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/ncnn_vulkan")
    options = parser.parse_args()
    ncnn = importlib.import_module("ncnn")
    if not ncnn.get_gpu_count():
        parser.exit(1, "ncnn finds no Vulkan device: apt install mesa-vulkan-drivers\n")
    devices = {"vulkan": ncnn.get_gpu_info(0).device_name(), "opencl": opencl_devices()[0]}
    rows, data = [], []
    target = find_target("opencl")
    for name, (make, shape) in CHAINS.items():
        layers, example = chain(make), torch.randn(shape)
        theirs, _held = ncnn_contender(ncnn, layers, example)
        program = capture_module(layers, (example,))
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            compiled = compile_program(program, target)
            runner = load_compiled(compiled, program.plan, program.signature, program.weights, target, Path(folder))
            torch.testing.assert_close(runner.run((example,))[0], layers(example), rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(theirs(), layers(example), rtol=1e-3, atol=1e-3)
            contenders = [Timed("ours", lambda run=runner.run, x=example: run((x,))), Timed("ncnn", theirs)]
            ours, other = alternate(contenders, options.rounds)
        ratio = other.ratio_to(ours)
        rows.append([name, f"{1e3 * ours.median:.2f}", f"{1e3 * other.median:.2f}", f"{ratio:.2f} ×"])
        data.append({"chain": name, "ours_ms": 1e3 * ours.median, "ncnn_ms": 1e3 * other.median, "ratio": ratio})
        print(" ".join(rows[-1]), flush=True)
    text = table([f"{DEPTH} layers", "ours, ms", "ncnn, ms", "faster than ncnn"], rows)
    print(devices, text, sep="\n")
    if options.keep:
        write_results("ncnn_vulkan", {"devices": devices, "rows": data}, text)


if __name__ == "__main__":
    main()
