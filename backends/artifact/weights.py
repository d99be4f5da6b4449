"""The weights of an artifact: a safetensors file whose tensors lie where a CPU can read them as they are mapped.

The format asks for tensors without gaps. Those whose size is a multiple of the alignment come first, after a header
that is padded to it, so that all of them are aligned; what is left, small and odd tensors, is copied when loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from penstock.backends.digest import tensor_digest
from penstock.passes.core.shapes import nbytes

ALIGNMENT = 64
_NAMES = {
    torch.float16: "F16", torch.float32: "F32", torch.float64: "F64", torch.bool: "BOOL",
    torch.int8: "I8", torch.int16: "I16", torch.int32: "I32", torch.int64: "I64", torch.uint8: "U8",
}  # fmt: skip


def store_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Write every distinct tensor once, under the first of its names; one tensor is held in memory at a time.

    Returns:
        For every other name, the name it is stored under.
    """
    first: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for name in sorted(tensors):
        stored = first.setdefault(tensor_digest(tensors[name]), name)
        if stored != name:
            aliases[name] = stored
    order = sorted(first.values(), key=lambda name: (nbytes(tensors[name]) % ALIGNMENT != 0, name))
    header: dict[str, object] = {}
    offset = 0
    for name in order:
        end = offset + nbytes(tensors[name])
        dtype, shape = _NAMES[tensors[name].dtype], list(tensors[name].shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return aliases
