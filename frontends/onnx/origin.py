"""Where an ONNX node comes from: its name, and the module and source line that the exporter wrote into its metadata.

`torch.onnx.export(dynamo=True)` leaves the module path, the classes and the Python stack of each operator in the
node's metadata. The older exporter left the module path in the node's name (``/encoder/layers.0/conv/Conv``). A file of
another tool has neither; there the place is the node's number in the file.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

import onnx

from penstock.passes.core.source import last_frame

_TORCH = "pkg.torch.onnx."


@dataclass(frozen=True)
class Origin:
    """Where an ONNX node comes from.

    Attributes:
        node: the node's name, or that of its first output where it has none.
        modules: the stack of modules, outermost first, as (dotted path, class name).
        trace: frames in the form of a Python traceback, innermost last.
    """

    node: str
    modules: tuple[tuple[str, str], ...]
    trace: str

    @property
    def source(self) -> str:
        """``net/unet.py:214 in forward``: the user's line."""
        return last_frame(self.trace)


def node_name(node: onnx.NodeProto) -> str:
    """The node's name, or that of its first output where it has none."""
    return str(node.name or next(iter(node.output), node.op_type))


def origin_of(node: onnx.NodeProto, number: int, file: str) -> Origin:
    """The origin of a node.

    Args:
        number: its position in the file, from 1.
        file: how to call the file.
    """
    name = node_name(node)
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    trace = metadata.get(_TORCH + "stack_trace") or f'File "onnx/{file}", line {number}, in {name}'
    scopes = _strings(metadata.get(_TORCH + "name_scopes"))
    classes = _strings(metadata.get(_TORCH + "class_hierarchy"))
    if scopes and len(scopes) == len(classes):
        modules = tuple(zip(scopes, classes, strict=True))[:-1]  # the last entry is the operator
    elif name.startswith("/"):
        modules = ((".".join(name.strip("/").split("/")[:-1]), ""),)
    else:
        modules = ()
    return Origin(name, modules, trace)


def _strings(text: str | None) -> list[str]:
    try:
        value = ast.literal_eval(text or "[]")
    except (ValueError, SyntaxError):
        return []
    return [str(item) for item in value] if isinstance(value, list) else []
