"""The native runner and its memory planner against TVM's virtual machine, with the same kernels.

::

    python -m benchmarks.runner_vs_vm                       # every model of the zoo, one thread
    python -m benchmarks.runner_vs_vm --model vit --threads 2

Both run in this process and take turns. What differs is who places the memory, who launches, and whose threads work.
Loading is timed in this process, where TVM is loaded already, with the weights read from a file by both; the start is
timed from outside, from a new process to its first result.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness import Timed, alternate, table, write_results
from examples.zoo import ZOO

SECONDS = 2.0  # at least so long each runs, or a model of a millisecond scatters by a few percent


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        ratio: the runner's time against the virtual machine's, the median over rounds.
        load_ratio: likewise for loading.
        start_ratio: likewise for a new process that loads the model and runs it once.
        arena_bytes: what the launch plan allocates.
        lower_bound_bytes: the largest set of values alive together.
        vm_bytes: what TVM's StaticPlanBlockMemory allocates, with inputs and outputs.
    """

    model: str
    runner_ms: float
    vm_ms: float
    ratio: float
    load_ratio: float
    start_ratio: float
    arena_bytes: int
    lower_bound_bytes: int
    vm_bytes: int


def measure(name: str, rounds: int) -> Row:
    """Compile a model for both, and let them take turns."""
    from safetensors.torch import load_file, save_file

    import penstock
    from benchmarks.tvm_vm import VirtualMachine, export, planned_bytes, to_tvm
    from penstock.backends.runner import Runner
    from penstock.passes.core.pipeline import Pipeline
    from penstock.passes.presets import LEGALIZE

    program = penstock.optimize(penstock.capture(*ZOO[name]()), target="llvm")
    legal = Pipeline(LEGALIZE).run(program)
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        artifact = penstock.compile(program, "llvm", Path(folder) / "net.penstock", cache=False)
        weights = export(legal, Path(folder) / "vm.so")["main"]
        tensors = {str(index): weight.contiguous() for index, weight in enumerate(weights)}
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, Path(folder) / "weights.safetensors")
        save_file(dict(zip(map(str, range(99)), legal.examples, strict=False)), Path(folder) / "inputs.safetensors")

        def load_runner() -> Runner:
            return Runner(artifact.path, legal.signature.inputs, legal.signature.outputs)

        def load_vm() -> VirtualMachine:
            weights = load_file(Path(folder) / "weights.safetensors")
            return VirtualMachine(Path(folder) / "vm.so", [weights[str(index)] for index in range(len(weights))])

        def start(kind: str) -> Timed:
            script = Path(__file__).with_name("first_result.py")
            return Timed(kind, lambda: subprocess.run([sys.executable, script, kind, folder], check=True))

        loads = alternate([Timed("runner", load_runner), Timed("vm", load_vm)], 5)
        starts = alternate([start("runner"), start("vm")], 5)
        runner, machine = load_runner(), load_vm()
        inputs = [to_tvm(example) for example in legal.examples]
        contenders = [
            Timed("runner", lambda: runner.run(legal.examples)),
            Timed("vm", lambda: machine.run(inputs)),
        ]
        contenders[0].run()
        ours, theirs = alternate(contenders, max(rounds, math.ceil(SECONDS / contenders[0].run())))
    memory = artifact.manifest.memory
    return Row(
        model=name,
        runner_ms=1e3 * ours.median,
        vm_ms=1e3 * theirs.median,
        ratio=ours.ratio_to(theirs),
        load_ratio=loads[0].ratio_to(loads[1]),
        start_ratio=starts[0].ratio_to(starts[1]),
        arena_bytes=memory.arena_bytes,
        lower_bound_bytes=memory.lower_bound_bytes,
        vm_bytes=planned_bytes(legal),
    )


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(ZOO))
    parser.add_argument("--rounds", type=int, default=60, help="at least")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/runner_vs_vm")
    options = parser.parse_args()
    # Both read these once.
    os.environ["TVM_NUM_THREADS"] = os.environ["PENSTOCK_THREADS"] = str(options.threads)
    rows = []
    for name in options.model or ZOO:
        rows.append(measure(name, options.rounds))
        row = rows[-1]
        print(
            f"{name}: {row.ratio:.3f} × the time, {row.load_ratio:.2f} × to load, {row.start_ratio:.2f} × to start",
            flush=True,
        )
    head = [
        "model",
        "runner ms",
        "VM ms",
        "time",
        "load",
        "start",
        "arena KiB",
        "lower bound KiB",
        "TVM's plan KiB",
        "arena",
    ]
    body = [
        [
            row.model,
            f"{row.runner_ms:.3f}",
            f"{row.vm_ms:.3f}",
            f"{row.ratio:.3f} ×",
            f"{row.load_ratio:.2f} ×",
            f"{row.start_ratio:.2f} ×",
            f"{row.arena_bytes / 1024:.1f}",
            f"{row.lower_bound_bytes / 1024:.1f}",
            f"{row.vm_bytes / 1024:.1f}",
            f"{row.arena_bytes / row.lower_bound_bytes:.3f} ×",
        ]
        for row in rows
    ]
    text = table(head, body)
    print(text)
    if options.keep:
        write_results("runner_vs_vm", {"threads": options.threads, "rows": [*map(asdict, rows)]}, text)


if __name__ == "__main__":
    main()
