"""`penstock targets`: the devices that can be compiled for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from penstock.cli.options import TargetName, global_options
from penstock.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.backends.targets import Target


@click.group()
@global_options
def targets() -> None:
    """List and describe target devices."""


@targets.command("list")
@global_options
@click.pass_obj
def list_targets(output: Output) -> None:
    """List every target by name."""
    from penstock.backends.targets import all_targets

    known = list(all_targets().values())

    def draw(console: Console) -> None:
        from penstock.cli.tables import table

        rows = [(target.name, target.kind, target.vendor, target.description) for target in known]
        console.print(table(["target", "kernels", "vendor", "what it is"], rows))

    output.result({"targets": [asdict(target) for target in known]}, draw)


@targets.command("show")
@click.argument("name", type=TargetName())
@global_options
@click.pass_obj
def show_target(output: Output, name: str) -> None:
    """Show one target's limits and where its figures come from."""
    from penstock.backends.targets import find_target

    target = find_target(name)

    def draw(console: Console) -> None:
        from penstock.cli.tables import table

        console.print(f"{target.name}: {target.description}", markup=False)
        console.print(table(["property", "value"], _properties(target)))
        for source in target.sources:
            console.print(f"source: {source}", markup=False, soft_wrap=True)

    output.result(asdict(target), draw)


def _compute(target: Target) -> list[tuple[str, str]]:
    """What kernels and their bounds are made for."""
    compute = target.compute
    return [
        ("compute units", str(compute.compute_units)),
        ("vector of a thread", f"{compute.vector_bytes} bytes"),
        ("threads that schedules aim for", str(compute.threads)),
        ("peak in float32", _rate(compute.gflops_float32, "GFLOP/s")),
        ("peak in float16", _rate(compute.gflops_float16, "GFLOP/s")),
        ("peak of the memory", _rate(compute.gbytes_per_second, "GB/s")),
    ]


def _rate(figure: float | None, unit: str) -> str:
    return "not known" if figure is None else f"{figure:g} {unit}"


def _properties(target: Target) -> list[tuple[str, str]]:
    from penstock.passes.core.sizes import format_size

    limits = target.limits
    rows = [
        ("kernels", target.kind),
        ("host code", target.host or "this computer"),
        ("vendor, family", f"{target.vendor}, {target.family}"),
        ("aliases", ", ".join(target.aliases)),
        ("threads in a work-group", str(limits.max_threads)),
        ("local memory", format_size(limits.local_memory_bytes)),
        ("threads in lock step", str(limits.subgroup)),
        ("computes in half precision", "yes" if limits.fp16 else "no"),
        ("largest allocation", _size_or_unknown(limits.max_allocation_bytes)),
        ("memory of a typical device", _size_or_unknown(limits.memory_bytes)),
        *(_compute(target) if target.on_gpu else ()),
        ("notes", target.notes),
    ]
    return [(name, value) for name, value in rows if value]


def _size_or_unknown(size: int | None) -> str:
    from penstock.passes.core.sizes import format_size

    return "not published" if size is None else format_size(size)
