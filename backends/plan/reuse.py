"""Values that can share memory with another one: a result with an operand or an argument, a part with the whole."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Protocol

from penstock.backends.plan.launches import Body, Copy, Value, launches, lifetimes


class Overwriting(Protocol):
    """A kernel, as far as sharing memory is concerned."""

    @property
    def in_place(self) -> tuple[tuple[int, int], ...]:
        """Pairs (written, read) of arguments that may share their memory."""


def shared(body: Body, kernels: Sequence[Overwriting], dying: Set[int] = frozenset()) -> Body:
    """Let values share memory in both ways. Each can stand in the way of the other, so the better order is taken."""
    orders = coalesce(in_place(body, kernels, dying)), in_place(coalesce(body), kernels, dying)
    return handed_on(min(orders, key=lambda found: (_peak(found), len(found.ops))), dying)


def in_place(body: Body, kernels: Sequence[Overwriting], dying: Set[int] = frozenset()) -> Body:
    """Let a kernel write over an operand that nobody needs any more, where the kernel may.

    It never needs more memory: both values are alive while the kernel runs.

    Args:
        dying: the arguments of the body, by index, that nobody needs after it.
    """
    live = lifetimes(body)
    owner = list(range(len(body.storages)))  # which storage took over each one
    over: dict[int, int] = {}

    def root(storage: int) -> int:
        while owner[storage] != storage:
            storage = owner[storage]
        return storage

    for position, loop, op in launches(body.ops):
        for written, read in kernels[op.kernel].in_place:
            result, operand = (body.values[op.args[index]] for index in (written, read))
            new, old = root(result.storage), root(operand.storage)
            made, used = live[new], live[old]
            if new == old or made is None or used is None or not made[0] == position == used[1]:
                continue
            if not (_is_whole(body, result) and _is_whole(body, operand)):
                continue
            if any(
                root(body.values[value].storage) == old
                and not ((written, index) in kernels[op.kernel].in_place and _is_whole(body, body.values[value]))
                for index, value in enumerate(op.args)
            ):
                continue  # another operand looks into the same memory, and is read at other places
            if loop is not None and not (loop.start <= used[0] and made[1] < loop.stop):
                continue  # it is needed by every iteration, or made by every one
            spaces = body.storages[new].space, body.storages[old].space
            if "weight" in spaces or (loop is not None and spaces != ("local", "local")):
                continue
            if spaces[1] == "local":
                owner[old] = new
                live[new] = (used[0], made[1])
            elif body.storages[old].index not in dying:
                continue
            elif spaces[0] == "local":
                owner[new] = old
                live[old] = (used[0], made[1])
            else:
                over[body.storages[new].index] = body.storages[old].index
                live[old] = None
            break
    values = tuple(replace(value, storage=root(value.storage)) for value in body.values)
    return replace(body, values=values, over=over)


def handed_on(body: Body, dying: Set[int]) -> Body:
    """Let a result that is an argument in another shape lie where that lies, without a copy.

    Args:
        dying: the arguments of the body, by index, that nobody needs after it.
    """
    live, over, ops = lifetimes(body), dict(body.over), []
    for position, op in enumerate(body.ops):
        if isinstance(op, Copy):
            values = body.values[op.source], body.values[op.target]
            argument, result = (body.storages[value.storage] for value in values)
            if (
                argument.space == result.space == "parameter"
                and argument.index in dying - set(over.values())
                and live[values[1].storage] == (position, position)
                and all(_is_whole(body, value) for value in values)
            ):
                over[result.index] = argument.index
                continue
        ops.append(op)
    return replace(body, ops=tuple(ops), over=over)


def _is_whole(body: Body, value: Value) -> bool:
    """Whether a value is all that its storage is for."""
    return value.offset == 0 and value.type.bytes == body.storages[value.storage].bytes


def coalesce(body: Body) -> Body:
    """Write a value straight to where it is copied to, where that does not raise the peak.

    This is how the parts of a concatenation come to lie in the whole: each is made in its place, and the copy goes.
    Copies are tried from the last to the first: a part that is made late costs the least.
    """
    peak = _peak(body)
    for position in reversed(range(len(body.ops))):
        op = body.ops[position]
        if not isinstance(op, Copy):
            continue
        merged = _merged(body, position, op)
        if merged is not None and _peak(merged) <= peak:
            body, peak = merged, _peak(merged)
    return body


def _merged(body: Body, position: int, copy: Copy) -> Body | None:
    """The body without a copy, whose source lies in its target from the start; None where that cannot be."""
    source, target = body.values[copy.source], body.values[copy.target]
    is_local = body.storages[source.storage].space == "local"
    if not (is_local and _is_whole(body, source)) or source.storage == target.storage:
        return None
    ops = (*body.ops[:position], *body.ops[position + 1 :])
    values = tuple(
        replace(value, storage=target.storage, offset=target.offset + value.offset)
        if value.storage == source.storage
        else value
        for value in body.values
    )
    return replace(body, ops=ops, values=values)


def _peak(body: Body) -> int:
    """The most bytes of storages alive at one op. Arguments are there from the start."""
    change = [0] * (len(body.ops) + 1)
    for storage, alive in zip(body.storages, lifetimes(body), strict=True):
        if alive is not None and storage.space != "weight":
            is_argument = storage.space == "parameter" and storage.index < body.arguments
            change[0 if is_argument else alive[0]] += storage.bytes
            change[alive[1] + 1] -= storage.bytes
    most = live = 0
    for step in change:
        live += step
        most = max(most, live)
    return most
