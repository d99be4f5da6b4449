"""Which attention kernel a GPU gets."""

from __future__ import annotations

from typing import Any

import tvm

from penstock.backends.tvm.schedules.attention import Attention
from penstock.backends.tvm.schedules.gpu.device import device_of
from penstock.backends.tvm.schedules.gpu.streaming_attention import streaming_attention
from penstock.backends.tvm.schedules.gpu.tiled_attention import tiled_attention


def gpu_attention(case: Attention) -> Any:
    """The scheduled kernel: parameters query, key, value, the mask if there is one, and result, all of rank 4."""
    device = device_of(tvm.target.Target.current())
    return tiled_attention(case, device) if device.compute.barriers else streaming_attention(case, device)
