"""Running a compiled library on the CPU of this machine, through TVM's virtual machine.

This is the only place that knows the VM: a native runner can take its place behind `Executable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import tvm
from tvm import relax

from penstock.passes.core.errors import UsageError

_ALIGNMENT = 64


class Executable:
    """A loaded library.

    Args:
        path: the shared library of an artifact.
        functions: for each graph, the names of the weights that its function takes after the graph's arguments.
        weights: all weights by name. Each is handed to TVM once, and copied only if it is not aligned as TVM asks.

    Raises:
        UsageError: the library does not load on this machine.
    """

    def __init__(self, path: Path, functions: Mapping[str, Sequence[str]], weights: Mapping[str, torch.Tensor]) -> None:
        try:
            self._machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UsageError(f"{path} does not load on this machine: {lines[-1]}") from error
        held = {id(tensor): _to_tvm(tensor) for tensor in weights.values()}
        self._weights = {graph: [held[id(weights[name])] for name in names] for graph, names in functions.items()}

    def call(self, graph: str, args: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Run one graph.

        Args:
            graph: its name.
            args: its arguments, of the shapes and dtypes it was compiled for.
        """
        results = self._machine[graph](*map(_to_tvm, args), *self._weights[graph])
        return tuple(_to_torch(result) for result in results)


def _to_tvm(tensor: torch.Tensor) -> Any:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bool:
        return tvm.runtime.tensor(tensor.numpy())
    if tensor.data_ptr() % _ALIGNMENT:
        tensor = tensor.clone()  # a slice, or mapped from a file; what torch allocates is aligned
    return tvm.runtime.from_dlpack(tensor)


def _to_torch(result: Any) -> torch.Tensor:
    # A copy: the VM may hand its storage out again at the next call.
    if str(result.dtype) == "bool":
        return torch.from_numpy(result.numpy().astype(bool))
    return torch.utils.dlpack.from_dlpack(result).clone()
