"""Small artifacts that several tests use."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.backends.runtime.plans import ROW, call, copy, graph, launch, loop, value, write

ROWS = "int32[4,32]"


def doubling(folder: Path, kind: str, steps: int, kernel: str = "twice", sanitize: str = "") -> Path:
    """`steps` times y = 2 * y in place, then one phase that adds y to itself: x * 2^(steps + 1)."""
    in_place = graph([ROW], [value("y", ROW, "parameter")], [launch(0, 0, 0)])
    addition = graph([ROW, ROW], [value("y", ROW, "parameter"), value("z", ROW, "parameter", 1)], [launch(1, 0, 0, 1)])
    return write(
        folder, kind, arenas=[128, 128], kernels=[(kernel, ROW, ROW), ("add", ROW, ROW, ROW)],
        graphs={"double": in_place, "add": addition},
        values=[value("y", ROW, "arena", 0), value("z", ROW, "arena", 1)], inputs=[0], outputs=[1],
        phases={"steps": [[call("double", 0)]] * steps, "end": [[call("add", 0, 1)]]},
        sanitize=sanitize,
    )  # fmt: skip


def rows(folder: Path, kind: str, sanitize: str = "") -> Path:
    """y[i] = x[i] + w[i] row by row, then y[0] = 2 y[0] in place and z = w[3]."""
    values = [
        value("x", ROWS, "parameter", 0),
        value("w", ROWS, "weight", 0),
        value("y", ROWS, "parameter", 1),
        value("z", ROW, "arena", 1, 128),
        value("last", ROW, "weight", 0, 384),
    ]
    ops = [loop(4, launch(0, [0, 128], [1, 128], [2, 128])), launch(1, 2, 2), copy(4, 3)]
    return write(
        folder, kind, arenas=[1024, 256], kernels=[("add", ROW, ROW, ROW), ("twice", ROW, ROW)],
        graphs={"main": graph([ROWS, ROWS], values, ops)},
        values=[value("x", ROWS, "arena", 0), value("y", ROWS, "arena", 0, 512), value("z", ROW, "arena", 1, 128)],
        inputs=[0], outputs=[1, 2], steps=[[call("main", 0, 1)]],
        weights={"w": np.arange(128, dtype=np.int32).reshape(4, 32)}, sanitize=sanitize,
    )  # fmt: skip
