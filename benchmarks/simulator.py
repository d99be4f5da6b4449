"""How fast phone GPUs are simulated: what `penstock verify` estimates its time from.

    python -m benchmarks.simulator [MODEL …]

For each model, in half precision for an Apple GPU: what compiling its kernels and running them twice takes of
one core. The cache of compiled kernels is not used.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import penstock
from benchmarks.harness import table
from examples.zoo import ZOO
from penstock.backends.simulator.host_plan import read_plan, threads
from penstock.report import Report

DEFAULT = ("unet2d", "ltx_dit", "vit")
DEVICE = "apple-a18-pro"


def measure(name: str, folder: Path) -> list[str]:
    """One row of the table."""
    program = penstock.optimize(penstock.capture(*ZOO[name]()), precision="float16")
    artifact = penstock.compile(program, DEVICE, folder / f"{name}.penstock", cache=False)
    model = penstock.load(artifact.path)
    examples = model.examples()
    inputs = [examples[spec.name] for spec in model.signature.inputs]
    began = _processor_seconds()
    simulation = model.simulate()
    compiled = _processor_seconds()
    simulation.run(inputs)
    ran = _processor_seconds()
    source = sum(path.stat().st_size for path in artifact.path.glob("kernels/*"))
    flops = Report.from_json((artifact.path / "report.json").read_bytes()).program.totals.flops
    started = threads(read_plan(artifact.path))
    return [
        name,
        f"{source / 1e3:.0f}",
        f"{compiled - began:.1f}",
        f"{source / 1e3 / (compiled - began):.0f}",
        f"{flops / 1e6:.1f}",
        str(started),
        f"{ran - compiled:.2f}",
    ]


def _processor_seconds() -> float:
    """Of this process and the compilers it has started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Print the table."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="penstock-") as name:
        folder = Path(name)
        os.environ["PENSTOCK_CACHE"] = str(folder / "cache")
        rows = [measure(model, folder) for model in sys.argv[1:] or DEFAULT]
    header = ["model", "source, kB", "compiling, s", "kB/s", "MFLOP", "threads", "two runs, s"]
    print(table(header, rows))
    print(f"\nprocessor seconds; the whole took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
