"""From launch lists to a launch plan: how long every buffer is needed over the whole plan, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.backends.plan.launches import Body, Kernel, Type, lifetimes
from penstock.backends.plan.placement import Block, Placement, place
from penstock.backends.plan.reuse import shared
from penstock.passes.core.program import Call, Plan, Signature, TensorSpec
from penstock.passes.core.shapes import dtype_name, dtype_named


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
class PlacedCall:
    """A call of a graph on values of the plan, by index."""

    graph: str
    args: tuple[int, ...]


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that a device has to do.

    Attributes:
        weights: the types of all weights by name, in the order in which places count them.
        values: the values that the plan carries between calls, its inputs and outputs among them.
        phases: by name, the calls of each step.
    """

    kernels: tuple[Kernel, ...]
    bodies: Mapping[str, PlacedBody]
    weights: Mapping[str, Type]
    values: tuple[PlacedValue, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    phases: tuple[tuple[str, tuple[tuple[PlacedCall, ...], ...]], ...]
    placement: Placement
    alignment: int


def lay_out(
    kernels: Sequence[Kernel],
    bodies: Mapping[str, Body],
    plan: Plan,
    signature: Signature,
    alignment: int,
    largest: int | None = None,
) -> LaunchPlan:
    """Place all memory of a plan.

    Args:
        kernels: what the launches of `bodies` refer to.
        bodies: the launches of each graph.
        plan: which graphs run on which values.
        signature: the inputs, which are there from the start, and the outputs, which stay to the end.
        alignment: of every offset, in bytes.
        largest: the largest single allocation of the device in bytes, None for no limit.

    Raises:
        TooLargeError: one tensor alone is larger than that.
    """
    bodies = {name: shared(body, kernels) for name, body in bodies.items()}
    carried = _Carried(bodies, plan, signature)
    blocks = list(carried.blocks())
    locals_of: dict[str, dict[int, int]] = {}
    for name, body in bodies.items():
        starts = carried.starts[name]
        locals_of[name] = {}
        for index, (storage, alive) in enumerate(zip(body.storages, lifetimes(body), strict=True)):
            if storage.space == "local" and alive is not None and starts:
                locals_of[name][index] = len(blocks)
                times = tuple((start + alive[0], start + alive[1]) for start in starts)
                names = [value.name for value in body.values if value.storage == index]
                blocks.append(Block(names[0] if names else name, storage.bytes, times))
    placement = place(blocks, alignment, largest)
    weights = {
        storage.weight: Type("uint8", (storage.bytes,))
        for body in bodies.values()
        for storage in body.storages
        if storage.space == "weight"
    }
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

    return LaunchPlan(
        kernels=tuple(kernels),
        bodies={name: placed(body, locals_of[name]) for name, body in bodies.items()},
        weights={name: weights[name] for name in positions},
        values=tuple(
            PlacedValue(item.spec.name, type_of(item.spec), Place("arena", *placement.places[index]))
            for index, item in enumerate(carried.items)
        ),
        inputs=carried.inputs,
        outputs=carried.outputs,
        phases=carried.phases,
        placement=placement,
        alignment=alignment,
    )


def type_of(spec: TensorSpec) -> Type:
    """The type of a tensor at the border of a program."""
    return Type(dtype_name(spec.dtype), spec.shape)


@dataclass
class _Item:
    """One version of a named value of the plan: from where it is made to where it is last needed."""

    spec: TensorSpec
    first: int
    last: int


class _Carried:
    """The values of a plan over time. An op of a call is a moment; a value bound again is another value."""

    def __init__(self, bodies: Mapping[str, Body], plan: Plan, signature: Signature) -> None:
        self.items: list[_Item] = []
        self.starts: dict[str, list[int]] = {name: [] for name in bodies}
        self._bodies = bodies
        self._spans = {name: _parameter_spans(body) for name, body in bodies.items()}
        self._current: dict[str, int] = {}
        self._now = 0
        self.inputs = tuple(self._add(spec, 0) for spec in signature.inputs)
        self.phases = tuple(
            (phase.name, tuple(tuple(map(self._call, step)) for step in phase.steps)) for phase in plan.phases
        )
        self.outputs = tuple(self._current[spec.name] for spec in signature.outputs)
        for output in self.outputs:
            self.items[output].last = self._now

    def blocks(self) -> list[Block]:
        """One block per value."""
        return [Block(item.spec.name, type_of(item.spec).bytes, ((item.first, item.last),)) for item in self.items]

    def _add(self, spec: TensorSpec, moment: int) -> int:
        self._current[spec.name] = len(self.items)
        self.items.append(_Item(spec, moment, moment))
        return len(self.items) - 1

    def _call(self, call: Call) -> PlacedCall:
        body, spans = self._bodies[call.graph], self._spans[call.graph]
        start = self._now
        self.starts[call.graph].append(start)
        args = [self._current[name] for name in call.args]
        for item, span in zip(args, spans, strict=False):
            self.items[item].last = max(self.items[item].last, start + span[1])
        results = []
        types = body.parameters[body.arguments :]
        for name, kind, span in zip(call.results, types, spans[body.arguments :], strict=True):
            results.append(self._add(_spec(name, kind), start + span[0]))
            self.items[results[-1]].last = start + span[1]
        self._now = start + max(1, len(body.ops))
        return PlacedCall(call.graph, (*args, *results))


def _spec(name: str, kind: Type) -> TensorSpec:
    return TensorSpec(name, kind.shape, dtype_named(kind.dtype))


def _parameter_spans(body: Body) -> list[tuple[int, int]]:
    """For each parameter, the first and the last op that touches it."""
    spans = [(0, 0)] * len(body.parameters)
    for storage, alive in zip(body.storages, lifetimes(body), strict=True):
        if storage.space == "parameter" and alive is not None:
            spans[storage.index] = alive
    return spans
