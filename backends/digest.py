"""SHA-256 of files, tensors and JSON texts, in hexadecimal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch


def file_digest(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_digest(tensor: torch.Tensor) -> str:
    """The digest of a tensor's dtype, shape and values."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sign(content: str) -> bytes:
    """A JSON object's text, up to its last member, closed with the digest of what stands before."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f'{content},\n "digest": "{digest}"\n}}\n'.encode()


def is_signed(text: bytes) -> bool:
    """Whether a text is exactly what `sign` wrote."""
    content, found, _ = text.rpartition(b',\n "digest": "')
    return bool(found) and sign(content.decode("utf-8", "replace")) == text
