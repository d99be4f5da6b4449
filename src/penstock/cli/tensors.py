"""Reading and writing tensors by name: ``.npy``, ``.npz`` and ``.safetensors`` files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import click

from penstock.passes.core.errors import UsageError

NamedTensors = dict[str, Any]


class NamedFile(click.ParamType[tuple[str, Path]]):
    """``name=file.npy``."""

    name = "name=file.npy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """The name and the path."""
        name, equals, path = str(value).partition("=")
        if not (name and equals and path):
            self.fail(f"expected name=file.npy, got '{value}'", param, ctx)
        return name, Path(path)


def read_array(path: Path) -> Any:
    """The array of a ``.npy`` file."""
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"cannot read {path} as a .npy file: {error}") from error


def read_tensors(path: Path) -> NamedTensors:
    """The tensors of a ``.npz`` or ``.safetensors`` file by name."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
    except (OSError, ValueError, EOFError, BadZipFile, SafetensorError) as error:
        raise UsageError(f"cannot read {path} as a {path.suffix} file: {error}") from error
    raise UsageError(f"{path}: expected a .npz or .safetensors file")


def check_writable(path: Path) -> None:
    """Refuse a file name that `write_tensors` could not serve, before the work is done."""
    if path.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"{path}: expected a file name that ends in .npz or .safetensors")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: the folder {path.absolute().parent} does not exist")


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write torch tensors to a ``.npz`` or ``.safetensors`` file."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    try:
        if path.suffix == ".safetensors":
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
            return
        for name, tensor in tensors.items():
            if tensor.dtype == torch.bfloat16:
                raise UsageError(f"output '{name}' is bfloat16, which .npz cannot hold; write a .safetensors file")
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}") from error
