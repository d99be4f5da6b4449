"""Rules of operators that move elements, and of element-wise ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.axes.axis import Axis, CoarserError, Reach, WholeError, through_view
from penstock.passes.analysis.axes.rules import Emit, Needs, Part, crop, inputs_of, rule
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


def broadcast(node: Node, axis: Axis) -> Needs:
    """Needs of tensors that broadcast to the result: those that have the dimension are needed in step."""
    rank = len(shape_of(node))
    needs: dict[str, Reach | None] = {}
    for key, source in inputs_of(node).items():
        shape = shape_of(source)
        dim = axis.dim - (rank - len(shape))
        if dim >= 0 and shape[dim] == axis.extent:
            needs[key] = Reach(axis.at(dim))
    return needs


@rule(
    aten.add.Tensor, aten.clone.default, aten.contiguous.default, aten._to_copy.default, aten.to.dtype,
    aten.dropout.default, aten.copy.default, aten.type_as.default, aten.alias.default, aten.detach.default,
    # Torch does not tag these as the element-wise operators that they are.
    aten.hardswish.default, aten.masked_fill.Tensor, aten.rsub.Tensor, aten.where.ScalarOther, aten.where.ScalarSelf,
)  # fmt: skip
def _elementwise(node: Node, axis: Axis) -> Needs:
    return broadcast(node, axis)


def _full_of_part(part: Part, emit: Emit, arguments: dict[str, Any]) -> None:
    if "size" in arguments:
        arguments["size"] = list(part.shape)


@rule(aten.full_like.default, aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default)
def _like(node: Node, axis: Axis) -> Needs:
    return broadcast(node, axis)


@rule(
    aten.full.default, aten.zeros.default, aten.ones.default, aten.empty.memory_format, aten.empty_permuted.default,
    make=_full_of_part,
)  # fmt: skip
def _full(node: Node, axis: Axis) -> Needs:
    return {}


def _reshaped(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    source = arguments.get("self", arguments.get("input"))
    (whole,) = inputs_of(part.node).values()
    try:
        through_view(shape_of(part.node), shape_of(whole), part.axis)
    except CoarserError as limit:  # whole runs, then what is asked for of them
        return _of_runs(
            part, emit, part.axis.size // limit.size, lambda shape: emit(aten.reshape.default, source, shape)
        )
    return emit(aten.reshape.default, source, list(part.shape))


def _of_runs(part: Part, emit: Emit, run: int, made: Callable[[list[int]], Any]) -> Any:
    """A part of a result that can be made in runs of positions: the runs that it touches, cropped."""
    start, stop = part.low // run * run, -(-part.high // run) * run
    shape = part.axis.resized(shape_of(part.node), stop - start)
    return crop(emit, made(list(shape)), part.axis, stop - start, part.low - start, part.high - start)


@rule(
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int,
    aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
    make=_reshaped,
)  # fmt: skip
def _view(node: Node, axis: Axis) -> Needs:
    ((key, source),) = inputs_of(node).items()
    return {key: Reach(through_view(shape_of(node), shape_of(source), axis))}


@rule(aten.permute.default)
def _permute(node: Node, axis: Axis) -> Needs:
    dims = arguments_of(node)["dims"]
    return {"self": Reach(axis.at(dims[axis.dim] % len(dims)))}


@rule(aten.transpose.int)
def _transpose(node: Node, axis: Axis) -> Needs:
    rank = len(shape_of(node))
    first, second = (arguments_of(node)[name] % rank for name in ("dim0", "dim1"))
    return {"self": Reach(axis.at({first: second, second: first}.get(axis.dim, axis.dim)))}


@rule(aten.t.default)
def _t(node: Node, axis: Axis) -> Needs:
    return {"self": Reach(axis.at(len(shape_of(node)) - 1 - axis.dim))}


def _expanded(part: Part, emit: Emit, arguments: dict[str, Any]) -> None:
    arguments["size"] = list(part.shape)


@rule(aten.expand.default, make=_expanded)
def _expand(node: Node, axis: Axis) -> Needs:
    return broadcast(node, axis)


@rule(aten.repeat.default)
def _repeat(node: Node, axis: Axis) -> Needs:
    source = shape_of(inputs_of(node)["self"])
    dim = axis.dim - (len(shape_of(node)) - len(source))
    if dim < 0 or axis.outer % (axis.extent // source[dim]):
        raise WholeError("it is repeated")
    return {"self": Reach(Axis(dim, axis.outer * source[dim] // axis.extent, axis.size, axis.inner))}


def _interleaved(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    times, dim = arguments["repeats"], arguments["dim"]
    made = emit(aten.repeat_interleave.self_int, arguments["self"], times, dim)
    if dim % len(part.shape) != part.axis.dim or part.axis.inner % times == 0:
        return made
    return _of_runs(part, emit, times, lambda _: made)


@rule(aten.repeat_interleave.self_int, make=_interleaved)
def _repeat_interleave(node: Node, axis: Axis) -> Needs:
    arguments = arguments_of(node)
    times, dim = arguments["repeats"], arguments["dim"]
    if dim is None or not isinstance(times, int):
        raise WholeError("it repeats a flattened tensor")
    if dim % len(shape_of(node)) != axis.dim:
        return {"self": Reach(axis)}
    if axis.inner % times == 0:
        return {"self": Reach(Axis(axis.dim, axis.outer, axis.size, axis.inner // times))}
    if axis.inner != 1 or axis.size % times:
        raise WholeError("runs of repeated elements do not fit its positions")
    return {"self": Reach(Axis(axis.dim, axis.outer, axis.size // times, 1), den=times)}


def _cut(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    if arguments["dim"] % len(part.shape) != part.axis.dim:
        return None
    if arguments["step"] == 1:
        return arguments["self"]
    return emit(aten.slice.Tensor, arguments["self"], part.axis.dim, 0, 2**63 - 1, arguments["step"])


@rule(aten.slice.Tensor, make=_cut)
def _slice_(node: Node, axis: Axis) -> Needs:
    arguments = arguments_of(node)
    source = shape_of(inputs_of(node)["self"])
    if arguments["dim"] % len(source) != axis.dim or source[axis.dim] == axis.extent:
        return {"self": Reach(axis)}
    start, _, step = slice(arguments["start"], arguments["end"], arguments["step"]).indices(source[axis.dim])
    if axis.outer != 1:
        raise WholeError("its dimension is cut, and the axis is an inner factor of it")
    if step != 1 and axis.inner != 1:
        raise WholeError("its dimension is cut with a step")
    if start % axis.inner or source[axis.dim] % axis.inner:
        raise WholeError("the cut does not meet its positions")
    first = start // axis.inner
    return {
        "self": Reach(Axis(axis.dim, 1, source[axis.dim] // axis.inner, axis.inner), num=step, first=first, last=first)
    }


@rule(aten.select.int)
def _select(node: Node, axis: Axis) -> Needs:
    rank = len(shape_of(inputs_of(node)["self"]))
    dim = arguments_of(node)["dim"] % rank
    return {"self": Reach(axis.at(axis.dim + (axis.dim >= dim)))}


def _joined(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    arguments["tensors"] = [tensor for tensor in arguments["tensors"] if tensor is not None]
    return arguments["tensors"][0] if len(arguments["tensors"]) == 1 else None


@rule(aten.cat.default, make=_joined)
def _cat(node: Node, axis: Axis) -> Needs:
    rank = len(shape_of(node))
    dim = arguments_of(node)["dim"] % rank
    parts = inputs_of(node)
    if dim != axis.dim:
        return {key: Reach(axis) for key, part in parts.items() if len(shape_of(part)) == rank}
    span = axis.size * axis.inner
    if axis.outer > 1 and not any(shape_of(part)[dim] % span for part in parts.values()):
        return {
            key: Reach(Axis(dim, shape_of(part)[dim] // span, axis.size, axis.inner)) for key, part in parts.items()
        }
    if axis.outer > 1 or any(shape_of(part)[dim] % axis.inner for part in parts.values()):
        raise WholeError("it is joined along the axis")
    needs: dict[str, Reach | None] = {}
    start = 0
    for key, part in parts.items():
        size = shape_of(part)[dim] // axis.inner
        needs[key] = Reach(Axis(dim, 1, size, axis.inner), first=-start, last=-start, optional=True)
        start += size
    return needs


@rule(aten.stack.default)
def _stack(node: Node, axis: Axis) -> Needs:
    dim = arguments_of(node)["dim"] % len(shape_of(node))
    if dim == axis.dim:
        raise WholeError("it is joined along the axis")
    return {key: Reach(axis.at(axis.dim - (axis.dim > dim))) for key in inputs_of(node)}


def pad_dim(arguments: dict[str, Any], rank: int, dim: int) -> tuple[int, int]:
    """How far `constant_pad_nd` pads a dimension on both sides."""
    pad = list(arguments["pad"])
    place = 2 * (rank - 1 - dim)
    return (pad[place], pad[place + 1]) if place < len(pad) else (0, 0)


def _padded(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    pad = list(arguments["pad"])
    place = 2 * (len(part.shape) - 1 - part.axis.dim)
    if place >= len(pad):
        return None
    before, after = part.padding["self"]
    pad[place : place + 2] = [before * part.axis.inner, after * part.axis.inner]
    return (
        emit(aten.constant_pad_nd.default, arguments["self"], pad, arguments["value"])
        if any(pad)
        else arguments["self"]
    )


@rule(aten.constant_pad_nd.default, make=_padded)
def _constant_pad(node: Node, axis: Axis) -> Needs:
    source = shape_of(inputs_of(node)["self"])
    before, after = pad_dim(arguments_of(node), len(source), axis.dim)
    if before == after == 0:
        return {"self": Reach(axis)}
    if axis.outer != 1:
        raise WholeError("its dimension is padded, and the axis is an inner factor of it")
    if before < 0 or after < 0 or before % axis.inner or source[axis.dim] % axis.inner:
        raise WholeError("the padding does not meet its positions")
    first = -(before // axis.inner)
    return {"self": Reach(Axis(axis.dim, 1, source[axis.dim] // axis.inner, axis.inner), first=first, last=first)}


@rule(
    aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default,
    aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default,
)  # fmt: skip
def _border_pad(node: Node, axis: Axis) -> Needs:
    if axis.dim >= len(shape_of(node)) - len(arguments_of(node)["padding"]) // 2:
        raise WholeError("its border is made of its own positions")
    return {"self": Reach(axis)}


@rule(aten.slice_scatter.default)
def _slice_scatter(node: Node, axis: Axis) -> Needs:
    if arguments_of(node)["dim"] % len(shape_of(node)) == axis.dim:
        raise WholeError("a part of the dimension is replaced")
    return {"self": Reach(axis), "src": Reach(axis)}


@rule(aten.flip.default, aten.roll.default)
def _moved(node: Node, axis: Axis) -> Needs:
    dims = [dim % len(shape_of(node)) for dim in arguments_of(node)["dims"]]
    if axis.dim in dims or not dims:
        raise WholeError("positions change places")
    return {"self": Reach(axis)}


def _shuffled(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    factor = arguments["upscale_factor"]
    if part.axis.dim < len(part.shape) - 2 or part.axis.inner % factor == 0:
        return None
    return _of_runs(part, emit, factor, lambda _: emit(aten.pixel_shuffle.default, arguments["self"], factor))


@rule(aten.pixel_shuffle.default, make=_shuffled)
def _pixel_shuffle(node: Node, axis: Axis) -> Needs:
    factor, rank = arguments_of(node)["upscale_factor"], len(shape_of(node))
    if axis.dim < rank - 3:
        return {"self": Reach(axis)}
    if axis.dim == rank - 3:
        return {"self": Reach(Axis(axis.dim, axis.outer, axis.size, axis.inner * factor * factor))}
    if axis.outer != 1:
        raise WholeError("it is an inner factor of a dimension that is woven")
    if axis.inner % factor:
        fine = Reach(Axis(axis.dim, 1, axis.size // factor, 1), den=factor) if axis.inner == 1 else None
        raise CoarserError(math.gcd(axis.extent // factor, axis.size), fine)
    return {"self": Reach(Axis(axis.dim, 1, axis.size, axis.inner // factor))}


@rule(aten.pixel_unshuffle.default)
def _pixel_unshuffle(node: Node, axis: Axis) -> Needs:
    factor, rank = arguments_of(node)["downscale_factor"], len(shape_of(node))
    if axis.dim < rank - 3:
        return {"self": Reach(axis)}
    if axis.dim == rank - 3:
        if axis.inner % (factor * factor):
            raise WholeError("channels come from positions")
        return {"self": Reach(Axis(axis.dim, axis.outer, axis.size, axis.inner // (factor * factor)))}
    return {"self": Reach(Axis(axis.dim, axis.outer, axis.size, axis.inner * factor))}
