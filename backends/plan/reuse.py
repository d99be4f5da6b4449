"""Values that can share memory with another one: results in the place of an operand, parts in the place of a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from penstock.backends.plan.launches import Body, Copy, Kernel, Launch, Value, lifetimes


def shared(body: Body, kernels: Sequence[Kernel]) -> Body:
    """Let values share memory in both ways. Each can stand in the way of the other, so the better order is taken."""
    orders = coalesce(in_place(body, kernels)), in_place(coalesce(body), kernels)
    return min(orders, key=lambda found: (_peak(found), len(found.ops)))


def in_place(body: Body, kernels: Sequence[Kernel]) -> Body:
    """Let a kernel write over an operand that nobody needs any more, where the kernel may.

    It never needs more memory: both values are alive while the kernel runs.
    """
    live = lifetimes(body)
    owner = list(range(len(body.storages)))  # which storage took over each one
    values = body.values

    def root(storage: int) -> int:
        while owner[storage] != storage:
            storage = owner[storage]
        return storage

    for position, op in enumerate(body.ops):
        if not isinstance(op, Launch):
            continue
        for written, read in kernels[op.kernel].in_place:
            result, operand = (values[op.args[index]] for index in (written, read))
            if not (_fills(body, result, "local", "parameter") and _fills(body, operand, "local")):
                continue
            new, old = root(result.storage), root(operand.storage)
            made, used = live[new], live[old]
            if new != old and made is not None and used is not None and made[0] == position == used[1]:
                owner[old] = new
                live[new] = (used[0], made[1])
                break
    return replace(body, values=tuple(replace(value, storage=root(value.storage)) for value in values))


def _fills(body: Body, value: Value, *spaces: str) -> bool:
    """Whether a value is all that its storage is for, as far as its place goes."""
    storage = body.storages[value.storage]
    return storage.space in spaces and value.offset == 0 and value.type.bytes == storage.bytes


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
    if not _fills(body, source, "local") or source.storage == target.storage:
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
    """The most bytes of storages alive at one op."""
    change = [0] * (len(body.ops) + 1)
    for storage, alive in zip(body.storages, lifetimes(body), strict=True):
        if alive is not None and storage.space != "weight":
            change[alive[0]] += storage.bytes
            change[alive[1] + 1] -= storage.bytes
    most = live = 0
    for step in change:
        live += step
        most = max(most, live)
    return most
