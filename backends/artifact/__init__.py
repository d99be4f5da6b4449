"""The artifact: one folder with everything that runs a compiled model.

``NAME.penstock`` holds::

    manifest.json          what it is: plan, signature, target, passes, tools, memory, kernels, hashes of all files
    plan.json              the launch plan: what the device does, see docs/launch_plan.md
    weights.safetensors    every distinct weight once
    check.safetensors      example inputs, and the outputs that PyTorch eager gave for them
    lib/                   the library of CPU kernels
    kernels/               the source of every kernel
    report.json  .html     where memory and time go, and what each pass did

Nothing in it is pickled, and nothing depends on time, on paths or on chance: the same input gives the same bytes.
"""

from __future__ import annotations

from penstock.backends.artifact.manifest import Description, Manifest
from penstock.backends.artifact.reader import Artifact, open_artifact
from penstock.backends.artifact.writer import check_destination, copy_artifact, write_artifact

__all__ = [
    "Artifact",
    "Description",
    "Manifest",
    "check_destination",
    "copy_artifact",
    "open_artifact",
    "write_artifact",
]
