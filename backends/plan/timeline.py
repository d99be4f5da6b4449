"""When the memory of a plan is needed: every value that calls hand on, and every storage inside of their bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from penstock.backends.plan.launches import Body, Launch, Type, launches, lifetimes, moments, weight_results
from penstock.backends.plan.loops import loop_body
from penstock.backends.plan.placement import Block
from penstock.backends.plan.reuse import Overwriting, in_place, shared
from penstock.backends.targets import Limits
from penstock.passes.core.program import Call, Op, Plan, Signature, TensorSpec
from penstock.passes.core.shapes import dtype_name, dtype_named


def type_of(spec: TensorSpec) -> Type:
    """The type of a tensor at the border of a program."""
    return Type(dtype_name(spec.dtype), spec.shape)


@dataclass(frozen=True)
class PlacedCall:
    """A call of a graph on values of the plan, by index."""

    graph: str
    args: tuple[int, ...]


@dataclass
class Item:
    """One version of a named value of the plan: from where it is made to where it is last needed.

    Attributes:
        lies_in: the item whose memory it takes over.
        weight: the name of the weight that it is.
    """

    spec: TensorSpec
    first: int
    last: int
    lies_in: int | None = None
    weight: str = ""

    @property
    def alive(self) -> tuple[int, int]:
        return self.first, self.last


class Timeline:
    """The memory of a plan over time. An op of a call is a moment; a value bound again is another value.

    Attributes:
        items: the values that calls hand on.
        bodies: those of loops are added as they are met.
        starts: for each body, the moments at which it begins to run.
        inputs, outputs: of the program, by index among the items.
        phases: by name, the calls of each step.

    Args:
        kernels: what the launches of `bodies` refer to.
        bodies: the launches of each graph.
        plan: which graphs run on which values.
        signature: the inputs, which are there from the start, and the outputs, which stay to the end.
        limits: of the device.
    """

    def __init__(
        self,
        kernels: Sequence[Overwriting],
        bodies: Mapping[str, Body],
        plan: Plan,
        signature: Signature,
        limits: Limits,
    ) -> None:
        self.items: list[Item] = []
        self._kernels = kernels
        dying = _dying(bodies, plan, signature)
        self._parts = {name: shared(body, kernels) for name, body in bodies.items()}  # what loops run
        self.bodies = {
            name: shared(bodies[name], kernels, dying[name]) if dying.get(name) else body
            for name, body in self._parts.items()
        }
        self.starts: dict[str, list[int]] = {name: [] for name in bodies}
        self._alignment = limits.part_alignment
        self._spans = {name: _parameter_spans(body) for name, body in self.bodies.items()}
        self._current: dict[str, int] = {}
        self._outputs = {spec.name for spec in signature.outputs}
        self._now = 0
        self.inputs = tuple(self._add(spec, 0) for spec in signature.inputs)
        self.phases = tuple(
            (phase.name, tuple(tuple(call for op in step for call in self._op(op)) for step in phase.steps))
            for phase in plan.phases
        )
        self.outputs = tuple(self._current[spec.name] for spec in signature.outputs)
        for output in self.outputs:
            self.items[output].last = self._now

    def blocks(self) -> tuple[list[Block], dict[str, dict[int, int]]]:
        """All that needs memory: a block for each item, and then one for each local storage of a body that runs.

        The second result says which block a storage is, for each body.
        """
        blocks = self._carried()
        local: dict[str, dict[int, int]] = {}
        for name, starts in self.starts.items():
            body, local[name] = self.bodies[name], {}
            names = {value.storage: value.name for value in reversed(body.values)}
            for index, (storage, alive) in enumerate(zip(body.storages, lifetimes(body), strict=True)):
                if storage.space == "local" and alive is not None and starts:
                    local[name][index] = len(blocks)
                    times = tuple((start + alive[0], start + alive[1]) for start in starts)
                    blocks.append(Block(names.get(index, name), storage.bytes, times))
        return blocks, local

    @cached_property
    def live(self) -> list[int]:
        """The bytes alive at each moment; no placement needs less than the most of them."""
        change = [0] * (self._now + 2)
        for block in self.blocks()[0]:
            for first, last in block.alive:
                change[first] += block.bytes
                change[last + 1] -= block.bytes
        return list(accumulate(change))

    def crowded(self, room: int) -> Iterator[Launch]:
        """The launches that run while more than some bytes are alive."""
        for name, starts in self.starts.items():
            for moment, _, launch in launches(self.bodies[name].ops):
                if any(self.live[start + moment] > room for start in starts):
                    yield launch

    def _carried(self) -> list[Block]:
        """One block per item; one that takes over the memory of another has none of its own."""
        for index, item in enumerate(self.items):
            holder = self.holder(index)
            self.items[holder].last = max(self.items[holder].last, item.last)
        return [
            Block(
                item.spec.name,
                0 if item.lies_in is not None or item.weight else type_of(item.spec).bytes,
                (item.alive,),
            )
            for item in self.items
        ]

    def holder(self, index: int) -> int:
        """The item in whose memory an item lies, itself or another."""
        while (other := self.items[index].lies_in) is not None:
            index = other
        return index

    def _add(self, spec: TensorSpec, moment: int) -> int:
        self._current[spec.name] = len(self.items)
        self.items.append(Item(spec, moment, moment))
        return len(self.items) - 1

    def _op(self, op: Op) -> tuple[PlacedCall, ...]:
        if isinstance(op, Call):
            weights = weight_results(self.bodies[op.graph])
            if not weights or self._outputs.intersection(op.results):
                return (self._run(op.graph, op.args, op.results, ()),)
            made = self.bodies[op.graph].parameters[self.bodies[op.graph].arguments :]
            for index, (name, kind) in enumerate(zip(op.results, made, strict=True)):
                self.items[self._add(_spec(name, kind), self._now)].weight = weights[index]
            return ()
        name = f"{op.results[0]}.loop"
        types = {arg: type_of(self.items[self._current[arg]].spec) for arg in op.args}
        body = in_place(loop_body(op, self._parts, types, self._alignment), self._kernels)
        while self.bodies.get(name, body) != body:
            name += "_"
        if name not in self.bodies:
            self.bodies[name], self._spans[name], self.starts[name] = body, _parameter_spans(body), []
        return (self._run(name, op.args, op.results, op.reuses),)

    def _run(
        self, name: str, arguments: Sequence[str], made: Sequence[str], reuses: Sequence[str | None]
    ) -> PlacedCall:
        body, spans = self.bodies[name], self._spans[name]
        start = self._now
        self.starts[name].append(start)
        args = [self._current[argument] for argument in arguments]
        taken = [None if reused is None else self._current[reused] for reused in reuses]
        for item, span in zip(args, spans, strict=False):
            self.items[item].last = max(self.items[item].last, start + span[1])
        results = []
        types = body.parameters[body.arguments :]
        for result, kind, span in zip(made, types, spans[body.arguments :], strict=True):
            results.append(self._add(_spec(result, kind), start + span[0]))
            self.items[results[-1]].last = start + span[1]
        for item, held in zip(results, taken, strict=False):
            self.items[item].lies_in = held
        for parameter, argument in body.over.items():
            self.items[results[parameter - body.arguments]].lies_in = args[argument]
        self._now = start + max(1, moments(body.ops))
        return PlacedCall(name, (*args, *results))


def _dying(bodies: Mapping[str, Body], plan: Plan, signature: Signature) -> dict[str, frozenset[int]]:
    """For each graph that the plan calls, the arguments that nobody needs after any of its calls.

    Inputs are the caller's, and what is a weight stays one.
    """
    ops = list(plan.ops())
    needed = {spec.name for spec in signature.outputs}
    needed_after: list[set[str]] = []
    for op in reversed(ops):
        needed_after.append(needed - set(op.results))
        needed = needed_after[-1] | set(op.args)
    given = {spec.name for spec in signature.inputs}
    found: dict[str, frozenset[int]] = {}
    for op, later in zip(ops, reversed(needed_after), strict=True):
        if isinstance(op, Call):
            free = frozenset(
                index
                for index, name in enumerate(op.args)
                if name not in later and name not in given and op.args.count(name) == 1
            )
            found[op.graph] = found.get(op.graph, free) & free
        given -= set(op.results)
        if isinstance(op, Call) and weight_results(bodies[op.graph]):
            given |= set(op.results)
    return found


def _spec(name: str, kind: Type) -> TensorSpec:
    return TensorSpec(name, kind.shape, dtype_named(kind.dtype))


def _parameter_spans(body: Body) -> list[tuple[int, int]]:
    """For each parameter, the first and the last op that touches it."""
    spans = [(0, 0)] * len(body.parameters)
    for storage, alive in zip(body.storages, lifetimes(body), strict=True):
        if storage.space == "parameter" and alive is not None:
            spans[storage.index] = alive
    return spans
