"""From launch lists to a launch plan: where every buffer lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.backends.plan.launches import Body, Type
from penstock.backends.plan.placement import Placement, lower_bound, place
from penstock.backends.plan.reuse import Overwriting
from penstock.backends.plan.timeline import PlacedCall, Timeline, type_of
from penstock.backends.targets import Limits
from penstock.passes.core.program import Plan, Signature

_NEAR = 1.02  # of the fewest bytes that arenas can have


@dataclass(frozen=True)
class Place:
    """Where a value lies: an offset in bytes into an arena, a parameter or a weight, by index."""

    space: Literal["arena", "parameter", "weight"]
    index: int
    offset: int


@dataclass(frozen=True)
class PlacedValue:
    """A tensor and its place."""

    name: str
    type: Type
    place: Place


@dataclass(frozen=True)
class PlacedBody:
    """The launches of one graph over values that have a place."""

    body: Body
    values: tuple[PlacedValue, ...]


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that a device has to do.

    Attributes:
        weights: the types of all weights by name, in the order in which places count them.
        values: the values that the plan carries between calls, its inputs and outputs among them.
        phases: by name, the calls of each step.
    """

    bodies: Mapping[str, PlacedBody]
    weights: Mapping[str, Type]
    values: tuple[PlacedValue, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    phases: tuple[tuple[str, tuple[tuple[PlacedCall, ...], ...]], ...]
    placement: Placement
    alignment: int


def lay_out(
    kernels: Sequence[Overwriting],
    bodies: Mapping[str, Body],
    plan: Plan,
    signature: Signature,
    limits: Limits,
    enough: int | None = 0,
) -> LaunchPlan:
    """Place all memory of a plan.

    Args:
        kernels: what the launches of `bodies` refer to.
        bodies: the launches of each graph.
        plan: which graphs run on which values.
        signature: the inputs, which are there from the start, and the outputs, which stay to the end.
        limits: of the device.
        enough: bytes of arenas within which nothing more is tried that takes long; None for near the fewest.

    Raises:
        TooLargeError: one tensor alone is larger than the device allocates.
    """
    timeline = Timeline(kernels, bodies, plan, signature, limits)
    bodies = {name: body for name, body in timeline.bodies.items() if timeline.starts[name]}
    blocks, locals_of = timeline.blocks()
    enough = int(_NEAR * lower_bound(blocks)) if enough is None else enough
    placement = place(blocks, limits.alignment, limits.max_allocation_bytes, enough)
    weights = {
        storage.weight: Type("uint8", (storage.bytes,))
        for body in bodies.values()
        for storage in body.storages
        if storage.space == "weight"
    } | {item.weight: Type("uint8", (type_of(item.spec).bytes,)) for item in timeline.items if item.weight}
    positions = {name: index for index, name in enumerate(sorted(weights))}

    def placed(body: Body, locals_: Mapping[int, int]) -> PlacedBody:
        values = []
        for value in body.values:
            storage = body.storages[value.storage]
            if storage.space == "local":
                arena, offset = placement.places[locals_[value.storage]] if value.storage in locals_ else (0, 0)
                at = Place("arena", arena, offset + value.offset)
            elif storage.space == "parameter":
                at = Place("parameter", storage.index, value.offset)
            else:
                at = Place("weight", positions[storage.weight], value.offset)
            values.append(PlacedValue(value.name, value.type, at))
        return PlacedBody(body, tuple(values))

    def held(index: int) -> Place:
        holder = timeline.holder(index)
        name = timeline.items[holder].weight
        return Place("weight", positions[name], 0) if name else Place("arena", *placement.places[holder])

    return LaunchPlan(
        bodies={name: placed(body, locals_of[name]) for name, body in bodies.items()},
        weights={name: weights[name] for name in positions},
        values=tuple(
            PlacedValue(item.spec.name, type_of(item.spec), held(index)) for index, item in enumerate(timeline.items)
        ),
        inputs=timeline.inputs,
        outputs=timeline.outputs,
        phases=timeline.phases,
        placement=placement,
        alignment=limits.alignment,
    )
