"""From the loops of a plan to launch lists: the bodies of all calls inside, one after the other, on moving memory.

A part whose positions lie side by side is its place in the whole, which moves from iteration to iteration. Any other
part is gathered into memory of its own before the body runs, or scattered after it, row by row. What a part keeps for
the next one is made where that finds it or, where something else still lies there to be read, copied there right after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.backends.plan.launches import Body, Copy, Loop, Op, Storage, Type, Value, touches, weight_results
from penstock.passes.core.program import Call, Kept, Piece, SliceLoop, Window
from penstock.passes.core.program import Op as PlanOp


def loop_body(loop: SliceLoop, bodies: Mapping[str, Body], types: Mapping[str, Type], alignment: int) -> Body:
    """The launches of a loop. Its parameters are the values that it takes, then its results.

    Args:
        bodies: the launches of every graph.
        types: of the values that the loop takes, by name.
        alignment: of every part that a kernel finds where it lies, in bytes.
    """
    composer = _Composer(bodies, alignment)
    env = {name: composer.parameter(types[name]) for name in loop.args}
    results = [composer.parameter(Type(dtype, shape)) for dtype, shape in zip(loop.dtypes, loop.shapes, strict=True)]
    shared = [None if name is None else env[name] for name in loop.reuses]
    ops = composer.loop(loop, env, results, shared, depth=0)
    return Body(
        tuple(composer.parameters), len(loop.args), tuple(composer.storages), tuple(composer.values), tuple(ops)
    )


@dataclass(frozen=True)
class _Place:
    """A tensor: where it begins in a storage, and how far it moves in an iteration of each loop around it."""

    type: Type
    storage: int
    offset: int = 0
    strides: tuple[int, ...] = ()

    def moved(self, offset: int, stride: int, depth: int, kind: Type) -> _Place:
        """A part of it, in a loop at a depth."""
        strides = (*self.strides, *[0] * (depth - len(self.strides)), stride)
        return _Place(kind, self.storage, self.offset + offset, strides)


class _Composer:
    def __init__(self, bodies: Mapping[str, Body], alignment: int) -> None:
        self._bodies = bodies
        self._alignment = alignment
        self.parameters: list[Type] = []
        self.storages: list[Storage] = []
        self.values: list[Value] = []
        self._weights: dict[str, int] = {}

    def parameter(self, kind: Type) -> _Place:
        self.parameters.append(kind)
        return _Place(kind, self._storage(Storage("parameter", kind.bytes, len(self.parameters) - 1)))

    def _storage(self, storage: Storage) -> int:
        self.storages.append(storage)
        return len(self.storages) - 1

    def _local(self, kind: Type) -> _Place:
        return _Place(kind, self._storage(Storage("local", kind.bytes)))

    def _value(self, name: str, place: _Place) -> int:
        self.values.append(Value(name, place.type, place.storage, place.offset, place.strides))
        return len(self.values) - 1

    def loop(
        self,
        loop: SliceLoop,
        env: Mapping[str, _Place],
        results: Sequence[_Place],
        shared: Sequence[_Place | None],
        depth: int,
    ) -> list[Op]:
        """The ops of a loop, `depth` loops deep; `shared` says which memory a result takes over."""
        kept = {memory.name: self._local(Type(memory.dtype, memory.shape)) for memory in loop.kept}
        bodies = (self._piece(piece, env, results, shared, kept, depth) for piece in loop.pieces)
        return [Loop(piece.count, tuple(ops)) for piece, ops in zip(loop.pieces, bodies, strict=True)]

    def _piece(
        self,
        piece: Piece,
        env: Mapping[str, _Place],
        results: Sequence[_Place],
        shared: Sequence[_Place | None],
        kept: Mapping[str, _Place],
        depth: int,
    ) -> list[Op]:
        ops: list[Op] = []
        local: dict[str, _Place] = {}
        for each in piece.takes:
            held = kept[each.memory]
            local[each.value] = replace(held, type=Type(held.type.dtype, each.shape))
        for param, (name, window) in zip(piece.params, piece.args, strict=True):
            place = env[name]
            if window is None:
                local[param] = place
                continue
            direct = self._direct(place, window, depth)
            local[param] = direct or self._local(Type(place.type.dtype, window.shape(place.type.shape)))
            if direct is None:
                ops += self._rows(name, place, window, local[param], depth, gather=True)
        targets: dict[str, _Place] = {}
        late: list[tuple[str, _Place, Window]] = []
        for made, place, window, reused in zip(piece.returns, results, piece.tiles, shared, strict=True):
            if window is None or made is None:
                continue
            direct = self._direct(place, window, depth)
            if direct is not None and reused is None and made not in targets and made not in local:
                targets[made] = direct
            else:
                late.append((made, place, window))
        copied: list[Kept] = []
        for each in piece.keeps:
            if piece.lies_in_place(each) and self._reads_before_it_writes(piece, each):
                held = kept[each.memory]
                targets[each.value] = replace(held, type=Type(held.type.dtype, each.shape))
            else:
                copied.append(each)
        ops += self.ops(piece.ops, local, targets, depth + 1)
        touched = [self._storages_of(op) for op in ops]
        for each in copied:
            value = local[each.value]
            memory = replace(kept[each.memory], type=value.type)
            ends = value.storage, memory.storage
            last = max((place for place, held in enumerate(touched) if not held.isdisjoint(ends)), default=-1)
            ops.insert(last + 1, Copy(self._value(each.value, value), self._value(each.memory, memory)))
            touched.insert(last + 1, {*ends})
        for name, place, window in late:
            ops += self._rows(name, place, window, local[name], depth, gather=False)
        return ops

    def _storages_of(self, op: Op) -> set[int]:
        """The storages that an op reads or writes."""
        return {self.values[value].storage for _, value in touches([op])}

    def _reads_before_it_writes(self, piece: Piece, kept: Kept) -> bool:
        """Whether the kernels of the graph that makes what is kept no longer read what lies there."""
        taken = {each.value for each in piece.takes if each.memory == kept.memory}
        call = next(op for op in piece.ops if kept.value in op.results)
        if not isinstance(call, Call) or taken.isdisjoint(call.args):
            return True
        body = self._bodies[call.graph]
        read = {index for index, name in enumerate(call.args) if name in taken}
        written = body.arguments + call.results.index(kept.value)
        parameters = {
            place: storage.index for place, storage in enumerate(body.storages) if storage.space == "parameter"
        }
        touched = [(moment, parameters.get(body.values[value].storage)) for moment, value in touches(body.ops)]
        last = max((moment for moment, parameter in touched if parameter in read), default=-1)
        return all(last < moment for moment, parameter in touched if parameter == written)

    def ops(self, ops: Sequence[PlanOp], env: dict[str, _Place], targets: Mapping[str, _Place], depth: int) -> list[Op]:
        """The ops of a body. What it makes is added to `env`; `targets` are the places that results are to have."""
        made: list[Op] = []
        for op in ops:
            if isinstance(op, Call):
                made += self._call(op, env, targets, depth)
                continue
            results, shared = [], []
            for spec, reused in zip(op.specs, op.reuses, strict=True):
                kind = Type(op.dtypes[op.results.index(spec.name)], spec.shape)
                place = targets.get(spec.name)
                held = None if reused is None else env[reused]
                if place is None and held is not None and held.type.bytes == kind.bytes:
                    place = replace(held, type=kind)
                results.append(place or self._local(kind))
                shared.append(
                    held if place is not None and held is not None and place.storage == held.storage else None
                )
            made += self.loop(op, env, results, shared, depth)
            env.update(zip(op.results, results, strict=True))
        return made

    def _call(self, call: Call, env: dict[str, _Place], targets: Mapping[str, _Place], depth: int) -> list[Op]:
        body = self._bodies[call.graph]
        weights = weight_results(body)
        if weights:
            for index, name in enumerate(call.results):
                env[name] = self._weight(weights[index], body.parameters[body.arguments + index])
            return []
        results = [
            targets.get(name) or self._local(kind)
            for name, kind in zip(call.results, body.parameters[body.arguments :], strict=True)
        ]
        places = [*(env[name] for name in call.args), *results]
        env.update(zip(call.results, results, strict=True))
        storages: list[_Place] = []
        for storage in body.storages:
            if storage.space == "parameter":
                storages.append(places[storage.index])
                continue
            kind = Type("uint8", (storage.bytes,))
            if storage.space == "weight":
                storages.append(self._weight(storage.weight, kind))
            else:
                storages.append(self._local(kind))
        numbers = []
        for value in body.values:
            held = storages[value.storage]
            place = _Place(value.type, held.storage, held.offset + value.offset, held.strides)
            numbers.append(self._value(value.name, place))
        return [_renumbered(op, numbers) for op in body.ops]

    def _weight(self, name: str, kind: Type) -> _Place:
        if name not in self._weights:
            self._weights[name] = self._storage(Storage("weight", kind.bytes, weight=name))
        return _Place(kind, self._weights[name])

    def _direct(self, place: _Place, window: Window, depth: int) -> _Place | None:
        """The part where it lies, if its positions lie side by side and kernels may begin there."""
        shape, unit = place.type.shape, _position_bytes(place, window)
        start, stride = window.start * unit, window.step * unit
        if not window.is_contiguous(shape) or start % self._alignment or stride % self._alignment:
            return None
        return place.moved(start, stride, depth, Type(place.type.dtype, window.shape(shape)))

    def _rows(self, name: str, whole: _Place, window: Window, part: _Place, depth: int, gather: bool) -> list[Op]:
        """Copy a part out of a whole or into it, one run of bytes that lie side by side after the other."""
        unit = _position_bytes(whole, window)
        rows = math.prod(whole.type.shape[: window.dim]) * window.outer
        run = Type("uint8", (window.extent * unit,))
        outside = whole.moved(window.start * unit, window.step * unit, depth, run)
        inside = replace(part, type=run)
        if rows > 1:
            outside = outside.moved(0, window.size * unit, depth + 1, run)
            inside = inside.moved(0, window.extent * unit, depth + 1, run)
        ends = self._value(name, outside), self._value(name, inside)
        copy = Copy(*ends) if gather else Copy(ends[1], ends[0])
        return [Loop(rows, (copy,))] if rows > 1 else [copy]


def _position_bytes(whole: _Place, window: Window) -> int:
    """Bytes that lie side by side for one position of a window."""
    return window.inner * Type(whole.type.dtype, whole.type.shape[window.dim + 1 :]).bytes


def _renumbered(op: Op, numbers: Sequence[int]) -> Op:
    if isinstance(op, Loop):
        return Loop(op.count, tuple(_renumbered(inner, numbers) for inner in op.ops))
    if isinstance(op, Copy):
        return Copy(numbers[op.source], numbers[op.target])
    return replace(op, args=tuple(numbers[arg] for arg in op.args))
