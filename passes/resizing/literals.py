"""The numbers in an operator's arguments that are sizes, for new sizes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.shapes import shape_of, value_of
from penstock.passes.core.source import source_of
from penstock.passes.resizing.atoms import ConflictError

aten = torch.ops.aten
_log = logging.getLogger(__name__)
_OPEN = 2**63 - 1

UPSAMPLES = (
    aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec,
    aten._upsample_nearest_exact1d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact3d.vec,
    aten.upsample_bilinear2d.vec, aten.upsample_bicubic2d.vec, aten.upsample_linear1d.vec,
    aten.upsample_trilinear3d.vec,
)  # fmt: skip

Shape = tuple[int, ...]
Changes = dict[str, Any]


def new_arguments(node: Node, source: Shape | None, results: Sequence[Shape], start: int | None = None) -> Changes:
    """The arguments of an operator that change with the sizes.

    Args:
        source: the new shape of its first tensor argument, if it has one.
        results: the new shapes of its results.
        start: for a slice, where it starts, if that follows from other sizes.

    Raises:
        ConflictError: which arguments do cannot be told.
    """
    if node.target is aten.slice.Tensor and start is not None:
        return {"start": start, "end": start + results[0][arguments_of(node)["dim"]]}
    rule = _RULES.get(node.target)
    return rule(node, source or (), results) if rule is not None else {}


def natural(node: Node, source: Shape) -> Changes:
    """The arguments that change of an operator whose result has no size of its own: nothing but its argument tells."""
    held = arguments_of(node)
    if node.target is aten.expand.default:
        old = (*[0] * (len(held["size"]) - len(source)), *shape_of(held["self"]))
        return {"size": [-1 if size == was else size for size, was in zip(held["size"], old, strict=True)]}
    if node.target is aten.slice.Tensor:
        dim = held["dim"] % len(source)
        old = shape_of(held["self"])[dim]
        return {"end": _OPEN} if held["end"] is None or held["end"] >= old else {}
    if node.target in UPSAMPLES and held["output_size"] is not None:
        old_in, old_out = shape_of(held["input"])[2:], held["output_size"]
        if any(new * out % old for new, out, old in zip(source[2:], old_out, old_in, strict=True)):
            raise ConflictError(
                f"'{node.name}' ({source_of(node)}) scales {old_in} to {tuple(old_out)}, not {source[2:]}"
            )
        return {"output_size": [new * out // old for new, out, old in zip(source[2:], old_out, old_in, strict=True)]}
    if node.target in (aten.split.Tensor, aten.split_with_sizes.default):
        dim = held["dim"] % len(source)
        parts = [value.shape[dim] for value in value_of(node)]
        return _split(
            node, source, [(*source[:dim], size, *source[dim + 1 :]) for size in shared_out(node, parts, source[dim])]
        )
    return {}


def shared_out(node: Node, parts: Sequence[int], total: int) -> list[int]:
    """How parts of a dimension become parts of a longer or shorter one."""
    if total == sum(parts):
        return list(parts)
    is_ragged = node.target is aten.split.Tensor and len(set(parts[:-1])) == 1 and parts[-1] < parts[0]
    if len(set(parts)) == 1 or is_ragged:
        each = -(-total // len(parts))
        return [*[each] * (len(parts) - 1), total - each * (len(parts) - 1)]
    place = max(range(len(parts)), key=parts.__getitem__)
    _log.warning(
        "'%s' (%s) splits %d into %s: of %d, the largest part is taken to change",
        node.name, source_of(node), sum(parts), list(parts), total,
    )  # fmt: skip
    return [total - sum(parts) + part if index == place else part for index, part in enumerate(parts)]


def _sized(name: str) -> Callable[[Node, Shape, Sequence[Shape]], Changes]:
    def rule(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
        (shape,) = results
        given = arguments_of(node)[name]
        return {
            name: [
                old if old == -1 and node.target is aten.expand.default else new
                for old, new in zip(given, shape, strict=True)
            ]
        }

    return rule


def _arange(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    held = arguments_of(node)
    ((count,),) = results
    if (count,) == shape_of(node):
        return {}
    return {"end": held.get("start", 0) + held.get("step", 1) * count}


def _linspace(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    return {"steps": results[0][0]}


def _eye(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    return {"n": results[0][0]}


def _unflatten(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    held = arguments_of(node)
    dim = held["dim"] % len(source)
    return {"sizes": list(results[0][dim : dim + len(held["sizes"])])}


def _slice(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    held = arguments_of(node)
    dim = held["dim"] % len(source)
    old, new = shape_of(held["self"])[dim], source[dim]
    length, step = results[0][dim], held["step"]
    if new == old and length == shape_of(node)[dim]:
        return {}
    start, end = held["start"] or 0, held["end"]
    is_open = end is None or end >= old
    if is_open and len(range(*slice(start, None, step).indices(new))) == length:
        return {"end": _OPEN}
    if not is_open and len(range(*slice(start, end, step).indices(new))) == length:
        return {}
    if is_open:  # the last so many
        return {"start": new - (length - 1) * step - 1, "end": _OPEN}
    if start > 0:
        raise ConflictError(
            f"'{node.name}' ({source_of(node)}) takes {shape_of(node)[dim]} of {old} from {start} on; from where it "
            f"would take {length} of {new} cannot be told"
        )
    first = start if start >= 0 else start + new
    return {"start": first, "end": first + (length - 1) * step + 1}


def _split(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    held = arguments_of(node)
    dim = held["dim"] % len(source)
    sizes = [shape[dim] for shape in results]
    if node.target is aten.split_with_sizes.default:
        return {"split_sizes": sizes}
    if len(sizes) == 1 and sizes[0] <= held["split_size"]:
        return {}
    return {"split_size": sizes[0]}


def _repeat(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    (shape,) = results
    padded = (*[1] * (len(shape) - len(source)), *source)
    return {"repeats": [new // old for new, old in zip(shape, padded, strict=True)]}


def _repeat_interleave(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    held = arguments_of(node)
    if held["dim"] is None:
        return {}
    dim = held["dim"] % len(source)
    counted = {} if held.get("output_size") is None else {"output_size": results[0][dim]}
    return {"repeats": results[0][dim] // source[dim], **counted}


def _upsample(node: Node, source: Shape, results: Sequence[Shape]) -> Changes:
    return {"output_size": list(results[0][2:])} if arguments_of(node)["output_size"] is not None else {}


_RULES: dict[Any, Callable[[Node, Shape, Sequence[Shape]], Changes]] = {
    **dict.fromkeys((aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.full.default,
                     aten.zeros.default, aten.ones.default, aten.empty.memory_format, aten.empty_permuted.default,
                     aten.rand.default, aten.randn.default, aten.new_zeros.default, aten.new_ones.default,
                     aten.new_full.default, aten.new_empty.default), _sized("size")),
    aten.reshape.default: _sized("shape"),
    **dict.fromkeys((aten.arange.default, aten.arange.start, aten.arange.start_step), _arange),
    aten.linspace.default: _linspace,
    aten.eye.default: _eye,
    aten.unflatten.int: _unflatten,
    aten.slice.Tensor: _slice,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    aten.repeat.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
    **dict.fromkeys(UPSAMPLES, _upsample),
}  # fmt: skip
