"""Full-size models in the native runner on a GPU, unsliced and sliced: bytes as planned, laid out and taken, and time.

::

    python -m benchmarks.full_native --compile-to models      # the published sizes; no GPU and no weights are needed
    python -m benchmarks.full_native --run models --keep      # where the GPU is: no TVM is needed
    python -m benchmarks.full_native --quick                  # a small model on any OpenCL device

Models are captured and compiled for float32 on fake tensors; where they run they get random weights, the same for
both, and ones for constants. Bytes are of activations. The limits are the planned bytes, a ratio of 1 and no error.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file

from benchmarks.harness import Timed, alternate, kept_rows, merged_rows, table, write_results
from benchmarks.opencl_cases import example
from penstock.backends.artifact.manifest import SignatureRecord, TensorRecord
from penstock.backends.runner import Runner
from penstock.backends.targets import find_target
from penstock.passes.core.program import Program, TensorSpec

MIB = 2**20
WHOLE, SLICED = "whole", "sliced"
"""The folders of a model, each with a launch plan and its kernels."""
INDEX, WEIGHTS = "model.json", "weights.safetensors"


class Compiled(BaseModel):
    """A model compiled twice, without its weights.

    Attributes:
        planned: activations in bytes, unsliced and sliced.
        signature: of either launch plan.
        weights: what both plans read.
        constants: what one of them reads, of what passes have folded.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    target: str
    planned: tuple[int, int]
    signature: SignatureRecord
    weights: tuple[TensorRecord, ...]
    constants: tuple[TensorRecord, ...]


@dataclass(frozen=True)
class Row:
    """One model, unsliced and sliced.

    Attributes:
        arena_bytes: of the launch plans, unsliced and sliced.
        taken_bytes: of the device's memory while the model is loaded and has run, weights not counted; 0 where nobody
            says. The driver's context and the code of the kernels are in it.
        whole_seconds: of a run of the unsliced model.
        ratio: time of the sliced model against that, the median over rounds.
        max_error: largest difference between the results, relative to the largest magnitude in them.
    """

    model: str
    device: str
    planned_bytes: tuple[int, int]
    arena_bytes: tuple[int, int]
    taken_bytes: tuple[int, int]
    weight_bytes: int
    whole_seconds: float
    ratio: float
    max_error: float


def compile_model(name: str, target_name: str, folder: Path) -> None:
    """Compile a model as it is, and sliced to its published share or a half, into an empty folder."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    import penstock
    from benchmarks.memory import PUBLISHED
    from examples import zoo
    from penstock.passes.analysis.memory import memory
    from penstock.passes.core.context import Context
    from penstock.passes.slicing.feature_slicing import FeatureSlicing

    with FakeTensorMode(allow_non_fake_inputs=True):
        module, args = getattr(zoo, name)(*([torch.float32] if name in PUBLISHED else []))
    program = penstock.optimize(penstock.capture(module, args))
    before = memory(program).activation_bytes
    asked = PUBLISHED.get(name, 0.5)
    wanted = int(asked * before) if asked < 1 else 2 * int(asked)  # those in bytes are for float16
    sliced = FeatureSlicing(str(program.weight_bytes + wanted)).run(program, Context())
    read = write_plan(program, target_name, before, folder / WHOLE)
    read_in_parts = write_plan(sliced, target_name, wanted, folder / SLICED)
    shared = read.keys() & read_in_parts.keys()
    described = Compiled(
        model=name,
        target=target_name,
        planned=(before, memory(sliced).activation_bytes),
        signature=SignatureRecord.of(program.signature),
        weights=tuple(record for name, record in read.items() if name in shared),
        constants=tuple(record for name, record in (read | read_in_parts).items() if name not in shared),
    )
    (folder / INDEX).write_text(described.model_dump_json(indent=1) + "\n", encoding="utf-8")


def write_plan(program: Program, target_name: str, room: int, folder: Path) -> dict[str, TensorRecord]:
    """Write the launch plan and the kernels of a program on fake tensors; what weights they read, by name."""
    from penstock.backends.plan.encoding import encode
    from penstock.backends.plan.launches import Type
    from penstock.backends.plan.layout import lay_out
    from penstock.backends.tvm.build import generate, launches_of
    from penstock.compilation import legalized

    target = find_target(target_name)
    legal = legalized(program, target)
    compiled = generate(launches_of(legal, target, room), target)
    placed = lay_out(compiled.kernels, compiled.bodies, legal.plan, legal.signature, target.limits, room)
    known = {**legal.weights, **compiled.constants}
    records = {
        name: TensorRecord.of(TensorSpec(name, tuple(known[name].shape), known[name].dtype))
        for name in sorted(placed.weights)
    }
    stored = {name: (name, str(Type(record.dtype, record.shape))) for name, record in records.items()}
    for kernel in compiled.kernels:
        (folder / kernel.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / kernel.file).write_text(kernel.source, encoding="utf-8")
    text = encode(placed, compiled.kernels, target.kind, (WEIGHTS, "0" * 64), stored, None)
    (folder / "plan.json").write_bytes(text)
    return records


def random_weight(spec: TensorSpec) -> torch.Tensor:
    """A weight that keeps magnitudes as they are: matrices scaled by what they sum over, gains around one."""
    if not spec.dtype.is_floating_point:
        return torch.zeros(spec.shape, dtype=spec.dtype)
    values = torch.randn(spec.shape)
    values = values / math.sqrt(values[0].numel()) if values.ndim > 1 else 1 + values / 8
    return values.to(spec.dtype)


def measure(folder: Path, rounds: int) -> Row:
    """Run one model that was compiled, in a folder that weights fit into."""
    compiled = Compiled.model_validate_json((folder / INDEX).read_text(encoding="utf-8"))
    torch.manual_seed(0)
    weights = {record.name: random_weight(record.spec()) for record in compiled.weights}
    held = sum(tensor.nbytes for tensor in weights.values())
    weights |= {record.name: torch.ones(record.shape, dtype=record.spec().dtype) for record in compiled.constants}
    save_file(weights, folder / WHOLE / WEIGHTS)
    (folder / SLICED / WEIGHTS).unlink(missing_ok=True)
    (folder / SLICED / WEIGHTS).hardlink_to(folder / WHOLE / WEIGHTS)
    del weights
    signature = compiled.signature.signature()
    inputs = [example(spec) for spec in signature.inputs]
    runners, results, taken = [], [], []
    for kind in (WHOLE, SLICED):
        before = used_bytes()
        runners.append(Runner(folder / kind, signature.inputs, signature.outputs))
        results.append(runners[-1].run(inputs))
        taken.append(max(0, used_bytes() - before - runners[-1].memory.weight_bytes))
        print(compiled.model, kind, runners[-1].memory, taken[-1], file=sys.stderr, flush=True)
    error = max(
        float((one.double() - other.double()).abs().max() / one.double().abs().max())
        for one, other in zip(*results, strict=True)
    )
    whole, sliced = runners
    contenders = [Timed(WHOLE, lambda: whole.run(inputs)), Timed(SLICED, lambda: sliced.run(inputs))]
    one, other = alternate(contenders, rounds, warm_up=1)
    return Row(
        compiled.model,
        whole.device,
        compiled.planned,
        (whole.memory.arena_bytes, sliced.memory.arena_bytes),
        (taken[0], taken[1]),
        held,
        one.median,
        other.ratio_to(one),
        error,
    )


def used_bytes() -> int:
    """Of the memory of the first NVIDIA GPU, by the driver; 0 without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    command = [tool, "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return MIB * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def folders(options: argparse.Namespace, temporary: Path) -> Iterator[Path]:
    """Of models that are compiled, or were."""
    if options.run:
        found = sorted(path.parent for path in options.run.glob(f"*/{INDEX}"))
        yield from (path for path in found if path.name in (options.model or [path.name]))
        return
    for name in options.model or (["svd_unet"] if options.quick else ["animatediff_full", "ltx_vae_decoder_full"]):
        folder = (options.compile_to or temporary) / name
        compile_model(name, options.target, folder)
        yield folder


def main() -> None:
    """Compile, measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="of the zoo, full-size or not")
    parser.add_argument("--target", default="opencl", help="an OpenCL one")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--compile-to", type=Path, metavar="FOLDER", help="compile only, into an empty folder")
    way.add_argument("--run", type=Path, metavar="FOLDER", help="measure what was compiled into a folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small model, few rounds")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/full_native")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for folder in folders(options, Path(temporary)):
            if options.compile_to:
                continue
            rows.append(asdict(measure(folder, 2 if options.quick else options.rounds)))
            print(rows[-1], file=sys.stderr, flush=True)
            if options.keep:
                kept = merged_rows(kept_rows("full_native"), rows, "model")
                write_results("full_native", {"rows": kept}, described(kept))
    if rows:
        print(described(rows))


def described(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table."""
    head = ["model", "device", "planned MiB", "arena", "taken", "weights MiB", "ms", "time", "error"]
    body = [
        [
            row.model,
            row.device,
            *(
                " → ".join(f"{each / MIB:.1f}" for each in pair)
                for pair in (row.planned_bytes, row.arena_bytes, row.taken_bytes)
            ),
            f"{row.weight_bytes / MIB:.0f}",
            f"{1e3 * row.whole_seconds:.0f}",
            f"{row.ratio:.2f} ×",
            f"{row.max_error:.1e}",
        ]
        for row in (Row(**each) for each in rows)
    ]
    return table(head, body)


if __name__ == "__main__":
    main()
