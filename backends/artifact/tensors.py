"""The tensors of an artifact, in safetensors files: plain data, mapped into memory when read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from penstock.passes.core.errors import UsageError

WEIGHTS = "weights.safetensors"
CHECK = "check.safetensors"


def check_tensors(inputs: Mapping[str, torch.Tensor], outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The content of the check file: example inputs and expected outputs by name."""
    return {f"input.{name}": tensor for name, tensor in inputs.items()} | {
        f"output.{name}": tensor for name, tensor in outputs.items()
    }


def store(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors under their names.

    What lies in the same memory, such as a result that is an argument, is written twice.
    """
    packed: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    for name in sorted(tensors):
        tensor = _packed(tensors[name])
        place = tensor.untyped_storage().data_ptr()
        packed[name] = tensor.clone() if place in taken else tensor
        taken.add(place)
    save_file(packed, path)


def read(path: Path, aliases: Mapping[str, str] | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, those stored under another name included.

    Raises:
        UsageError: not a safetensors file, or an alias of nothing.
    """
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
        return tensors | {name: tensors[stored] for name, stored in (aliases or {}).items()}
    except (SafetensorError, OSError, KeyError) as error:
        raise UsageError(f"{path} is damaged: {error}; compile the model again") from error


def _packed(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor dense and with its storage to itself, as the format asks."""
    packed = tensor.detach().cpu().contiguous()
    alone = packed.untyped_storage().nbytes() == packed.numel() * packed.element_size()
    return packed if alone else packed.clone()
