"""`penstock targets`: the devices that can be compiled for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli.options import TargetName, global_options
from penstock.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console


@click.group()
@global_options
def targets() -> None:
    """List and describe target devices."""
