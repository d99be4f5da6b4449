"""Activations at full size, unsliced and sliced, by liveness on fake tensors: no weights are needed, and nothing runs.

::

    python -m benchmarks.memory                # the published sizes, minutes; then what diffusers' own switches do
    python -m benchmarks.memory --model unet2d --share 0.5      # a model of the zoo, in half of its activations
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

from torch._subclasses.fake_tensor import FakeTensorMode

import penstock
from benchmarks import todays_memory
from benchmarks.harness import kept_rows, merged_rows, table, write_results
from examples import zoo
from penstock.passes.analysis.memory import Attention, memory
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program, SliceLoop
from penstock.passes.slicing.feature_slicing import FeatureSlicing

MIB = 2**20
PUBLISHED = {  # bytes of activations to reach, or the share of them
    "svd_unet_full": 420 * MIB,
    "animatediff_full": 215 * MIB,
    "svd_vae_decoder_full": 0.1,
    "ltx_vae_decoder_full": 0.1,
    "ltx_dit_full": 0.25,
    "wan_dit_full": 0.25,
}


@dataclass(frozen=True)
class Row:
    """One model with one kind of attention; bytes are activations at the peak, seconds the processor time to plan."""

    model: str
    attention: Attention
    unsliced_bytes: int
    wanted_bytes: int
    sliced_bytes: int
    loops: int
    seconds: float


def measure(name: str, program: Program, attention: Attention, wanted: int) -> Row:
    """Slice one model to a number of bytes, or as far as it goes."""
    before = memory(program, attention).activation_bytes
    began = time.process_time()  # of this thread's work: whatever else runs on the machine does not count
    sliced = FeatureSlicing(str(program.weight_bytes + wanted), attention).run(program, Context())
    seconds = time.process_time() - began
    loops = sum(isinstance(op, SliceLoop) for op in sliced.plan.ops())
    return Row(name, attention, before, wanted, memory(sliced, attention).activation_bytes, loops, seconds)


def captured(name: str) -> Program:
    """A model on fake tensors, cleaned up."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        module, args = getattr(zoo, name)()
    return penstock.optimize(penstock.capture(module, args))


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=[*PUBLISHED, *zoo.ZOO])
    parser.add_argument("--share", type=float, default=0.5, help="of its activations, for a model of the zoo")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/memory")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.model or PUBLISHED:
        program = captured(name)
        kinds = get_args(Attention)
        if len({memory(program, attention).activation_bytes for attention in kinds}) == 1:
            kinds = kinds[:1]  # no attention whose scores would be stored
        for attention in kinds:
            wanted = PUBLISHED.get(name, options.share)
            if wanted < 1:
                wanted *= memory(program, attention).activation_bytes
            rows.append(measure(name, program, attention, int(wanted)))
            print(rows[-1], file=sys.stderr, flush=True)
    print(_text(rows))
    if options.keep:
        merged = merged_rows(kept_rows("memory"), map(asdict, rows), "model", "attention")
        write_results("memory", {"rows": merged}, _text([Row(**row) for row in merged]))
    if not options.model:
        todays_memory.compare(options.keep)


def _text(rows: Sequence[Row]) -> str:
    head = ["model", "attention", "unsliced MiB", "asked MiB", "sliced MiB", "loops", "seconds"]
    body = [
        [
            row.model,
            row.attention,
            f"{row.unsliced_bytes / MIB:.1f}",
            f"{row.wanted_bytes / MIB:.1f}",
            f"{row.sliced_bytes / MIB:.1f}",
            str(row.loops),
            f"{row.seconds:.0f}",
        ]
        for row in rows
    ]
    return table(head, body)


if __name__ == "__main__":
    main()
