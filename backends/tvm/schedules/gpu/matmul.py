"""Matmuls and convolutions on a GPU: tiles of TVM's rule, on every kind of GPU."""

from __future__ import annotations

from typing import Any

import tvm
from tvm.s_tir import dlight


class Matmul(dlight.gpu.Matmul):  # type: ignore[misc]
    """Tiles for matmuls and convolutions, the plain ones on Metal too.

    TVM's rule for Metal's matrix units keeps half-precision sums, and takes no kernel that accumulates in float32.
    """

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        if target.kind.name == "metal":
            limits = {key: int(target.attrs[key]) for key in ("max_threads_per_block", "max_shared_memory_per_block")}
            target = tvm.target.Target({"kind": "vulkan", **limits}, host=target.host)
        return super().apply(func, target, tunable)
