"""The inputs that an ONNX file declares, and example tensors for them.

Examples verify the compiled model, so they must be values that the model can take: an index stays inside the smallest
table that it selects from, and a mask lets everything through.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import torch
from torch import Tensor

from penstock.frontends.onnx.importer import inputs_of
from penstock.frontends.onnx.read import OnnxFile
from penstock.frontends.onnx.tensors import dtype_of_element_type, element_type_name
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import TensorSpec

_SEED = 0
_CARRIES_INDICES = (
    "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Transpose", "Slice", "Expand", "Concat", "Split",
)  # fmt: skip


def example_inputs(file: OnnxFile, args: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    """`args` after a check against the inputs that the file declares, or random tensors of their shapes.

    Random floats are normal, indices uniform over the table that they select from; other integers are 1 and booleans
    True, so that a mask hides nothing.

    Raises:
        UsageError: an input is no tensor, has a dynamic size and `args` is None, or `args` differ in number, shape or
            dtype.
    """
    if args is None:
        generator = torch.Generator().manual_seed(_SEED)
        tables = _table_sizes(file.model.graph)
        return tuple(_random(spec, tables.get(spec.name), generator) for spec in _static_specs(file))
    declared = inputs_of(file.model.graph)
    if len(args) != len(declared):
        names = ", ".join(item.name for item in declared)
        raise UsageError(f"{file.name} takes {len(declared)} input(s) ({names}), got {len(args)}")
    for item, tensor in zip(declared, args, strict=True):
        sizes, dtype = _sizes(item), _dtype(file, item)
        fits = len(sizes) == tensor.dim() and all(
            not isinstance(size, int) or size == extent for size, extent in zip(sizes, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype != dtype:
            raise UsageError(
                f"{file.name}: input '{item.name}' is {dtype} [{', '.join(map(str, sizes))}], "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
    return tuple(args)


def _static_specs(file: OnnxFile) -> list[TensorSpec]:
    specs: list[TensorSpec] = []
    dynamic: list[str] = []
    for item in inputs_of(file.model.graph):
        sizes = _sizes(item)
        shape = tuple(size for size in sizes if isinstance(size, int))
        if len(shape) < len(sizes):
            dynamic.append(f"'{item.name}' [{', '.join(map(str, sizes))}]")
        specs.append(TensorSpec(item.name, shape, _dtype(file, item)))
    if dynamic:
        raise UsageError(
            f"{file.name} has inputs of dynamic size: {', '.join(dynamic)}; pass example arguments that fix the sizes, "
            f"or export the model without dynamic_shapes"
        )
    return specs


def _sizes(item: onnx.ValueInfoProto) -> list[int | str]:
    """The declared size of each dimension; the name of a symbol, or '?', where it is dynamic."""
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or "?"
        for dim in item.type.tensor_type.shape.dim
    ]


def _dtype(file: OnnxFile, item: onnx.ValueInfoProto) -> torch.dtype:
    if not item.type.HasField("tensor_type") or not item.type.tensor_type.HasField("shape"):
        kind = item.type.WhichOneof("value")
        raise UsageError(f"{file.name}: input '{item.name}' is a {kind} without a known rank; inputs must be tensors")
    element_type = item.type.tensor_type.elem_type
    dtype = dtype_of_element_type(element_type)
    if dtype is None:
        raise UsageError(f"{file.name}: input '{item.name}' holds {element_type_name(element_type)}, which torch lacks")
    return dtype


def _table_sizes(graph: onnx.GraphProto) -> dict[str, int]:
    """How many rows the smallest table has that each index input selects from, followed back through the graph."""
    extents = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    sizes: dict[str, int] = {}
    for node in reversed(graph.node):
        if node.op_type == "Gather" and node.input[0] in extents:
            axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
            bounds = [(node.input[1], extents[node.input[0]][axis])]
        elif node.op_type in _CARRIES_INDICES:
            found = [sizes[name] for name in node.output if name in sizes]
            bounds = [(name, min(found)) for name in node.input if name and found]
        else:
            continue
        for name, bound in bounds:
            sizes[name] = min(bound, sizes.get(name, bound))
    return sizes


def _random(spec: TensorSpec, table: int | None, generator: torch.Generator) -> Tensor:
    if spec.dtype.is_floating_point or spec.dtype.is_complex:
        return torch.randn(spec.shape, dtype=spec.dtype, generator=generator)
    if table is not None and spec.dtype != torch.bool:
        return torch.randint(0, table, spec.shape, dtype=spec.dtype, generator=generator)
    return torch.ones(spec.shape, dtype=spec.dtype)
