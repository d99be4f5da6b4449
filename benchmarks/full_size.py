"""Full-size models in torch on a GPU, unsliced and sliced: bytes as planned and as taken, time, and the results.

::

    python -m benchmarks.full_size                                       # the published sizes, float16
    python -m benchmarks.full_size --model svd_unet_full --share 0.2 --dtype float32
    python -m benchmarks.full_size --quick                               # a small model; runs without a GPU

A model is captured and sliced on fake tensors, and gets its weights, random ones, where it runs. All bytes are of
activations, inputs and results included, weights not. The limits are the planned bytes, a ratio of 1 and no error.
Float32 is computed in full, without TF32.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch
from filelock import FileLock
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

import penstock
from benchmarks.harness import alternate, kept_rows, merged_rows, table, write_results
from benchmarks.memory import PUBLISHED
from benchmarks.sliced_memory import torch_peak
from examples import zoo
from penstock.passes.analysis.memory import Attention, memory
from penstock.passes.core import reference
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.core.sizes import parse_size
from penstock.passes.slicing.feature_slicing import FeatureSlicing

MIB = 2**20


@dataclass(frozen=True)
class Use:
    """Bytes of activations of one run.

    Attributes:
        values: the most that is held where no operator is at work, which is what a plan counts.
        asked: the most in all, with what operators need while they work.
        allocated: the same as the allocator rounds it up.
        reserved: what the allocator takes from the device beyond what it had.
    """

    planned: int
    values: int
    asked: int
    allocated: int
    reserved: int


@dataclass(frozen=True)
class Row:
    """One model, unsliced and sliced.

    Attributes:
        model: with "stored scores" where attention stores them.
        bits: of a floating-point number.
        kept_bytes: workspaces of the device's libraries, kept between runs: no activations, the same for both.
        operators: the most that one kind of operator needs while it works, in the sliced model; the largest first.
        whole_seconds: of a run of the unsliced model.
        ratio: time of the sliced model against that, the median over rounds.
        replay_ratio: likewise of graphs that were recorded once, so that starting operators costs the host nothing.
        max_error: largest difference between the results, relative to the largest magnitude in them.
        finite: whether all results are finite.
    """

    model: str
    bits: int
    device: str
    weight_bytes: int
    whole: Use
    sliced: Use
    kept_bytes: int
    operators: dict[str, int]
    whole_seconds: float
    ratio: float
    replay_ratio: float | None
    max_error: float
    finite: bool


class Meter(TorchFunctionMode):
    """Watches the CUDA allocator at every operator, in bytes beyond those held when it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.before = torch.cuda.memory_stats()["requested_bytes.all.current"]
        self.values = self.asked = 0
        self.operators: dict[str, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        torch.cuda.reset_peak_memory_stats()
        result = func(*args, **(kwargs or {}))
        seen = torch.cuda.memory_stats()
        held, most = (seen[f"requested_bytes.all.{key}"] for key in ("current", "peak"))
        self.values, self.asked = max(self.values, held - self.before), max(self.asked, most - self.before)
        self.operators[str(func)] = max(self.operators.get(str(func), 0), most - held)
        return result


@dataclass(frozen=True)
class OnDevice:
    """A contender that works on a device; its time ends when the device is done."""

    name: str
    device: torch.device
    function: Callable[[], object]

    def run(self) -> float:
        """Call it; the seconds it took."""
        if self.device.type != "cuda":
            began = time.perf_counter()
            self.function()
            return time.perf_counter() - began
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        self.function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3


def run(program: Program) -> tuple[torch.Tensor, ...]:
    """A run on the examples; copies of them, which die as planned."""
    return reference.run(program, (example.clone() for example in program.examples))


def used(program: Program, attention: Attention) -> tuple[Use, dict[str, int]]:
    """What a run takes, and what kinds of operators need while they work; measured after a run to warm up."""
    planned = memory(program, attention).activation_bytes
    run(program)
    if program.device.type != "cuda":
        values, most = torch_peak(program)
        return Use(planned, values, most, most, most), {}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()
    run(program)
    after = torch.cuda.memory_stats()
    allocated, reserved = (
        after[f"{kind}_bytes.all.peak"] - before[f"{kind}_bytes.all.current"] for kind in ("allocated", "reserved")
    )
    with Meter() as meter:
        run(program)
    largest = sorted(meter.operators.items(), key=lambda each: -each[1])[:5]
    return Use(planned, meter.values, meter.asked, allocated, reserved), dict(largest)


def replayed(program: Program) -> Callable[[], None]:
    """A program recorded as a CUDA graph: what starts it again."""
    inputs = [example.clone() for example in program.examples]
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        reference.run(program, inputs)
    return recorded.replay


def difference(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    """The largest difference, relative to the largest magnitude expected."""
    return max(
        float((one.double() - other.double()).abs().max() / one.double().abs().max())
        for one, other in zip(expected, found, strict=True)
    )


def planned(build: Callable[[], zoo.Example], attention: Attention, budget: float) -> tuple[Program, Program]:
    """A model on fake tensors, cleaned up, and the same sliced to so many bytes of activations, or to a share."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        module, args = build()
    whole = penstock.optimize(penstock.capture(module, args))
    if budget < 1:
        budget *= memory(whole, attention).activation_bytes
    sliced = FeatureSlicing(str(whole.weight_bytes + int(budget)), attention).run(whole, Context())
    return whole, sliced


def with_data(
    programs: Sequence[Program], build: Callable[[], zoo.Example], device: torch.device
) -> tuple[Program, ...]:
    """Programs of a model with its weights, made on a device."""
    with device:
        module, args = build()
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    weights = {name: tensor.detach().to(device) for name, tensor in named}  # some constructors choose the CPU
    return tuple(program.with_data(weights, [arg.to(device) for arg in args]) for program in programs)


def measure(name: str, attention: Attention, whole: Program, sliced: Program, rounds: int) -> Row:
    """Compare one model with itself."""
    device = whole.device
    outputs = run(whole)
    bits = 8 * next(each.dtype.itemsize for each in outputs)
    found = run(sliced)
    error, finite = difference(outputs, found), all(bool(each.isfinite().all()) for each in (*outputs, *found))
    del outputs, found
    is_cuda = device.type == "cuda"
    held = sum({id(each): each.nbytes for each in (*whole.weights.values(), *whole.examples)}.values())
    kept = torch.cuda.memory_stats()["requested_bytes.all.current"] - held if is_cuda else 0
    uses = [used(program, attention) for program in (whole, sliced)]
    print(name, error, finite, kept, uses, file=sys.stderr, flush=True)
    one, other = alternate(
        [OnDevice("whole", device, lambda: run(whole)), OnDevice("sliced", device, lambda: run(sliced))], rounds
    )
    print(name, one, other, file=sys.stderr, flush=True)
    replay_ratio = None
    if is_cuda:
        recorded = [OnDevice(name, device, replayed(program)) for name, program in (("0", whole), ("1", sliced))]
        first, second = alternate(recorded, rounds)
        print(name, first, second, file=sys.stderr, flush=True)
        replay_ratio = second.ratio_to(first)
    return Row(
        name if attention == "fused" else f"{name}, stored scores",
        bits,
        torch.cuda.get_device_name(device) if is_cuda else str(device),
        whole.weight_bytes,
        uses[0][0],
        uses[1][0],
        kept,
        uses[1][1],
        one.median,
        other.ratio_to(one),
        replay_ratio,
        error,
        finite,
    )


@contextlib.contextmanager
def attention_as(attention: Attention) -> Iterator[None]:
    """Let torch's attention store its scores, or choose for itself."""
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # the scores in the precision of the operands
    with sdpa_kernel(SDPBackend.MATH) if attention == "materialized" else contextlib.nullcontext():
        yield


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=[*PUBLISHED, *zoo.ZOO])
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--share", type=float, help="of the activations, for the sliced model")
    budget.add_argument("--budget", type=parse_size, help="for the activations of the sliced model, such as 420MiB")
    parser.add_argument("--attention", choices=get_args(Attention), default="fused")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of a full-size model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--lock", help="a file; holds its lock on the device, while other processes plan their models")
    parser.add_argument("--quick", action="store_true", help="a small model, few rounds")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/full_size, where other rows stay")
    options = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    names = options.model or (["svd_unet"] if options.quick else [*PUBLISHED])
    rows = []
    for name in names:
        build = getattr(zoo, name)
        wanted = options.budget or options.share or PUBLISHED.get(name, 0.5)
        if name in PUBLISHED:
            dtype = getattr(torch, options.dtype)
            build, full = lambda build=build, dtype=dtype: build(dtype), wanted
            wanted = full if options.budget or full < 1 else full * dtype.itemsize // 2  # they are for float16
        programs = planned(build, options.attention, wanted)
        with FileLock(options.lock) if options.lock else contextlib.nullcontext(), attention_as(options.attention):
            whole, sliced = with_data(programs, build, torch.device(options.device))
            rows.append(measure(name, options.attention, whole, sliced, 2 if options.quick else options.rounds))
            if options.keep:
                keep(rows)
    print(described(rows))


def keep(rows: Sequence[Row]) -> None:
    """Add rows to those that are kept."""
    kept = merged_rows(kept_rows("full_size"), map(asdict, rows), "model", "bits")
    write_results("full_size", {"rows": kept}, described([_row(each) for each in kept]))


def _row(kept: dict[str, Any]) -> Row:
    return Row(**{**kept, "whole": Use(**kept["whole"]), "sliced": Use(**kept["sliced"])})


def described(rows: Sequence[Row]) -> str:
    """The table."""
    head = ["model", "bits", "device", "planned MiB", "values", "with workspaces", "reserved"]
    head += ["workspaces kept", "ms", "time", "replayed", "error"]
    body = [
        [
            row.model,
            str(row.bits),
            row.device,
            *(
                f"{getattr(row.whole, key) / MIB:.1f} → {getattr(row.sliced, key) / MIB:.1f}"
                for key in ("planned", "values", "asked", "reserved")
            ),
            f"{row.kept_bytes / MIB:.1f}",
            f"{1e3 * row.whole_seconds:.0f}",
            f"{row.ratio:.2f} ×",
            "–" if row.replay_ratio is None else f"{row.replay_ratio:.2f} ×",
            f"{row.max_error:.1e}" if row.finite else "not finite",
        ]
        for row in rows
    ]
    return table(head, body)


if __name__ == "__main__":
    main()
