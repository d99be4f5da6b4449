"""One group: a run of operators made in parts that fit a number of bytes, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from torch.fx import GraphModule, Node

from penstock.passes.analysis.axes import Axis, WholeError
from penstock.passes.analysis.axes.reductions import MERGES
from penstock.passes.analysis.memory import Attention
from penstock.passes.core.aliases import Buffer, buffers_of
from penstock.passes.slicing.bodies import outline
from penstock.passes.slicing.cuts import Cut, CutRecipe
from penstock.passes.slicing.kernels import Kernels, of_nodes
from penstock.passes.slicing.loops import Loop, Loops
from penstock.passes.slicing.parts import Parts
from penstock.passes.slicing.reuse import Memory
from penstock.passes.slicing.tiling import Tiler, Tiling, looked_at
from penstock.passes.slicing.timeline import Timeline, run_peak, staying_bytes

if TYPE_CHECKING:
    from penstock.passes.slicing.planner import Planner, Schedule


@dataclass(frozen=True)
class Group:
    """A run of operators that is made in parts.

    Attributes:
        start, stop: the run: operators start … stop-1 of the graph.
        origins: the first and the last of `Timeline.origins` in the run.
        axis: along which its main result is cut.
        cut: the loop that makes its results.
        sweeps: the loops before it, one for each sweep of the tiling.
        hoist: how what is hoisted is cut; None where it runs as it is.
        bytes: the most alive at once while it runs, with all that waits for later.
        reuses: for outputs that take over the memory of a value that dies here, that value.
    """

    start: int
    stop: int
    origins: tuple[int, int]
    axis: Axis
    tiling: Tiling
    cut: Cut
    sweeps: tuple[Cut, ...] = ()
    hoist: Schedule | None = None
    bytes: int = 0
    reuses: Mapping[Node, Node] = field(default_factory=dict)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """All its loops."""
        return *self.sweeps, self.cut

    def tiling_of(self, loop: int) -> Tiling:
        """What one of its loops makes, by its place among them."""
        return self.tiling.sweeps[loop].tiling if loop < len(self.sweeps) else self.tiling

    @property
    def seconds(self) -> float:
        """The time that the group adds, as estimated."""
        hoist = self.hoist.seconds if self.hoist is not None else 0.0
        return hoist + sum(cut.seconds for cut in self.cuts)

    @cached_property
    def kernels(self) -> Kernels:
        """Of all the graphs that the group needs."""
        facts = self.tiling.facts
        hoist = of_nodes(self.tiling.hoisted, facts) if self.hoist is None else self.hoist.kernels
        return hoist.union(*(cut.kernels for cut in self.cuts))

    @property
    def depth(self) -> int:
        """How often parts are cut again."""
        inside = [cut.inner for cut in self.cuts]
        return max((1 + each.depth for each in (*inside, self.hoist) if each is not None), default=0)

    @property
    def flops(self) -> float:
        """The arithmetic that is done again."""
        hoist = self.hoist.flops if self.hoist is not None else 0.0
        return hoist + sum(cut.flops for cut in self.cuts)


@dataclass(frozen=True)
class _Frame:
    """What a tiling needs around its loops, whatever the number of parts.

    Attributes:
        before: bytes alive all through the loops of its sweeps.
    """

    tiling: Tiling
    before: int
    _hoist: Callable[[], int]
    _reuses: Callable[[], Mapping[Node, Node]]

    @cached_property
    def hoist(self) -> int:
        """The most alive while what is hoisted runs."""
        return self._hoist()

    @cached_property
    def reuses(self) -> Mapping[Node, Node]:
        """For outputs that take over the memory of a value that dies here, that value."""
        return self._reuses()

    @cached_property
    def base(self) -> int:
        """Bytes alive all through the main loop."""
        facts = self.tiling.facts
        return self.before + sum(facts.counted(node) for node in self.tiling.outputs if node not in self.reuses)

    def fits(self, budget: int) -> bool:
        """Whether there may be loops under a budget."""
        return self.before <= budget and self.base <= budget


class _Tried(NamedTuple):
    """The last run tried of those that end at one border and are cut along one axis.

    Attributes:
        stays: bytes that are made before its main loop and stay.
        could_sweep: whether sweeps could make that less.
    """

    start: int
    stays: int
    could_sweep: bool


class Groups:
    """The groups of one graph; what does not depend on the budget is found once.

    Args:
        inner: gives the planner for the graph of a part.
        largest: bytes that no single value may exceed; None for no limit.
    """

    def __init__(
        self,
        module: GraphModule,
        line: Timeline,
        attention: Attention,
        inner: Callable[[GraphModule], Planner],
        largest: int | None = None,
    ) -> None:
        self.module = module
        self.line = line
        self._attention: Attention = attention
        self._inner_planner = inner
        self._index = {node: index for index, node in enumerate(line.nodes)}
        held = buffers_of(module.graph)
        self.views: dict[Node, Buffer | None] = {node: (found[0] if found else None) for node, found in held.items()}
        self._tiler = Tiler(largest)
        self.facts = self._tiler.facts
        self._tilings: dict[tuple[int, int, Axis, bool], Tiling | None] = {}
        self._frames: dict[tuple[int, int, Axis, bool], _Frame] = {}
        self._loops = Loops(module, attention, inner)
        self._shorter: dict[tuple[int, Node, Axis], _Tried] = {}
        self._before: dict[tuple[tuple[Node, ...], ...], Planner] = {}  # of what is hoisted and what is kept of it
        self._memory = Memory(line, self.views, self.facts)

    def of(self, start: int, stop: int, budget: int, depth: int) -> list[Group]:
        """The groups that make a run under a budget, one for each axis of its largest result at most.

        Args:
            depth: how often parts may be cut again.
        """
        seed = self._seed(start, stop)
        if seed is None or self.line.live[start] > budget:
            return []
        shape = self.facts[seed].shape
        axes = [Axis.of(shape, dim) for dim, extent in enumerate(shape) if extent > 1]
        found = (self._along(start, stop, seed, axis, budget, depth) for axis in axes)
        return [group for group in found if group is not None]

    def made(self, start: int, stop: int) -> list[Node]:
        """The values that a run makes for later."""
        return [node for node in self.line.nodes[start:stop] if self.line.last_use.get(node, -1) >= stop]

    def kept(self, tiling: Tiling, stop: int) -> list[Node]:
        """What is made before the loops and needed in them or after them."""
        inside = set(tiling.sliced)
        taken = {
            source if tiling.needs[node][key] is not None else looked_at(node, source)
            for node in tiling.sliced
            for key, source in tiling.sources[node].items()
            if tiling.needs[node][key] is None or source not in inside
        }
        return [node for node in tiling.hoisted if node in taken or self.line.last_use.get(node, -1) >= stop]

    def hoisted(self, tiling: Tiling, stop: int, name: str) -> tuple[GraphModule, tuple[Node, ...], list[Node]]:
        """What runs before the loops as a graph of its own, the values that it takes, and those that it makes."""
        kept = self.kept(tiling, stop)
        return (*outline(self.module, self.line.with_views(tiling.hoisted), kept, name), kept)

    def _along(self, start: int, stop: int, seed: Node, axis: Axis, budget: int, depth: int) -> Group | None:
        if self._is_hopeless(start, stop, seed, axis, budget):
            return None
        tiling = self._tiling(start, stop, seed, axis, False)
        for sweeping in (False, True):
            if sweeping and (tiling is None or tiling.could_sweep):
                tiling = self._tiling(start, stop, seed, axis, True)
            if tiling is None or (sweeping and not tiling.sweeps):
                continue
            frame = self._framed(start, stop, axis, tiling)
            if not sweeping:
                stays = frame.before - self.line.live[start]
                self._shorter[stop, seed, axis] = _Tried(start, stays, tiling.could_sweep)
            if not frame.fits(budget):
                continue
            if frame.hoist > budget and not depth:
                continue
            sweeps: list[Cut] = []
            for sweep in tiling.sweeps:
                cut = self._loops.cut(
                    Loop(start, stop, axis, True, sweep.node), sweep.tiling, budget - frame.before, depth
                )
                if cut is None:
                    break
                sweeps.append(cut)
            if len(sweeps) < len(tiling.sweeps):
                continue
            cut = self._loops.cut(Loop(start, stop, axis, sweeping), tiling, budget - frame.base, depth)
            if cut is None:
                continue
            hoist: Schedule | None = None
            if frame.hoist > budget:
                room = budget - self.line.live[start]
                hoist = self._hoist(tiling, stop, room, depth)
                if hoist is None:
                    continue
            return self._assembled(start, stop, axis, tiling, frame, cut, tuple(sweeps), hoist)
        return None

    def _is_hopeless(self, start: int, stop: int, seed: Node, axis: Axis, budget: int) -> bool:
        """Whether a shorter run kept too much whole already: what operators further ahead need adds to that."""
        shorter = self._shorter.get((stop, seed, axis))
        if shorter is None or start >= shorter.start or shorter.could_sweep:
            return False
        if self.line.live[start] + shorter.stays <= budget:
            return False
        return not any(node.target in MERGES for node in self.line.nodes[start : shorter.start])

    def given(
        self,
        run: tuple[int, int],
        dim: int,
        cut: CutRecipe,
        sweeps: Sequence[CutRecipe],
        hoisted: int | None,
        depth: int = 1,
    ) -> Group:
        """A group that is given, not chosen.

        Args:
            run: the operators start … stop-1.
            dim: of the largest result of the run.
            cut: the main loop.
            sweeps: likewise for each sweep.
            hoisted: the bytes to which what is hoisted is cut; None where it runs as it is.
            depth: how often parts that are cut again may be cut, this time included.

        Raises:
            WholeError: the run cannot be made so; the text says why.
        """
        start, stop = run
        if start in self.line.inside or stop in self.line.inside:
            raise WholeError("it begins or ends between an operator and the choice of one of its results")
        seed = self._seed(start, stop)
        if seed is None:
            raise WholeError("nothing that it makes is used")
        shape = self.facts[seed].shape
        if not 0 <= dim < len(shape):
            raise WholeError(f"'{seed.name}' has {len(shape)} dimensions, there is no dimension {dim}")
        axis = Axis.of(shape, dim)
        operators = self.line.with_views(self.line.nodes[start:stop])
        tiling = self._tiler.tile(operators, set(self.made(start, stop)), seed, axis, bool(sweeps))
        if len(tiling.sweeps) != len(sweeps):
            raise WholeError(f"it has {len(tiling.sweeps)} reductions to sweep, not {len(sweeps)}")
        if hoisted is not None and not tiling.hoisted:
            raise WholeError("it hoists nothing")
        frame = self._frame(start, stop, tiling)
        made_before = hoisted is not None and self._hoist(tiling, stop, hoisted, depth)
        if hoisted is not None and not made_before:
            raise WholeError(f"what runs before it cannot be cut to {hoisted} bytes")
        loops = [
            self._loops.given(Loop(start, stop, axis, True, sweep.node), sweep.tiling, each, depth)
            for sweep, each in zip(tiling.sweeps, sweeps, strict=True)
        ]
        main = self._loops.given(Loop(start, stop, axis, bool(sweeps)), tiling, cut, depth)
        hoist = made_before or None
        return self._assembled(start, stop, axis, tiling, frame, main, tuple(loops), hoist)

    def alike(self, group: Group, offset: int) -> Group:
        """A group for a run that is like another one's, some operators further on."""
        start, stop = group.start + offset, group.stop + offset
        seed = self._seed(start, stop)
        assert seed is not None
        tiling = self._tiling(start, stop, seed, group.axis, bool(group.sweeps))
        assert tiling is not None
        frame = self._framed(start, stop, group.axis, tiling)
        return self._assembled(start, stop, group.axis, tiling, frame, group.cut, group.sweeps, group.hoist)

    def recut(self, group: Group, loop: int, to: Parts | int) -> Group | None:
        """A group one of whose loops has other parts, or parts that are cut again to other bytes.

        Args:
            loop: its place among the group's.

        Returns:
            None where there cannot be such parts.
        """
        tiling, is_sweep = group.tiling_of(loop), loop < len(group.sweeps)
        reduction = group.tiling.sweeps[loop].node if is_sweep else None
        before = group.cuts[loop]
        key = Loop(group.start, group.stop, group.axis, bool(group.sweeps), reduction, before.keeps_halos)
        try:
            if isinstance(to, int):
                recipe = before.recipe.model_copy(update={"again": to})
                cut = self._loops.given(key, tiling, recipe, group.depth)
            else:
                cut = self._loops.part(key, tiling, to).cut
        except WholeError:
            return None
        cuts = [*group.cuts[:loop], cut, *group.cuts[loop + 1 :]]
        frame = self._framed(group.start, group.stop, group.axis, group.tiling)
        run = group.start, group.stop, group.axis, group.tiling
        return self._assembled(*run, frame, cuts[-1], tuple(cuts[:-1]), group.hoist)

    def _seed(self, start: int, stop: int) -> Node | None:
        """The largest value that a run makes for later, along which it is cut."""
        made = self.made(start, stop)
        return max(made, key=lambda node: (self.facts[node].bytes, self._index[node]), default=None)

    def _assembled(
        self,
        start: int,
        stop: int,
        axis: Axis,
        tiling: Tiling,
        frame: _Frame,
        cut: Cut,
        sweeps: tuple[Cut, ...],
        hoist: Schedule | None,
    ) -> Group:
        before = frame.hoist if hoist is None else self.line.live[start] + hoist.bytes
        most = max(frame.base + cut.bytes, before, *(frame.before + sweep.bytes for sweep in sweeps), 0)
        origins = self.line.origins[start], self.line.origins[stop - 1]
        return Group(start, stop, origins, axis, tiling, cut, sweeps, hoist, most, frame.reuses)

    def _tiling(self, start: int, stop: int, seed: Node, axis: Axis, sweeping: bool) -> Tiling | None:
        key = (start, stop, axis, sweeping)
        if key not in self._tilings:
            try:
                run = self.line.with_views(self.line.nodes[start:stop])
                self._tilings[key] = self._tiler.tile(run, set(self.made(start, stop)), seed, axis, sweeping)
            except WholeError:
                self._tilings[key] = None
        return self._tilings[key]

    def _framed(self, start: int, stop: int, axis: Axis, tiling: Tiling) -> _Frame:
        key = (start, stop, axis, bool(tiling.sweeps))
        if key not in self._frames:
            self._frames[key] = self._frame(start, stop, tiling)
        return self._frames[key]

    def _frame(self, start: int, stop: int, tiling: Tiling) -> _Frame:
        kept = set(self.kept(tiling, stop))
        live = self.line.live[start]
        stays = staying_bytes(kept, self.views, set(tiling.hoisted), self.facts)
        stays += sum(tiling.facts[sweep.node].bytes for sweep in tiling.sweeps)

        def hoist() -> int:
            return live + run_peak(tiling.hoisted, kept, self.views, self._attention, self.facts)

        return _Frame(tiling, live + stays, hoist, lambda: self._memory.reuses(start, stop, tiling))

    def _hoist(self, tiling: Tiling, stop: int, room: int, depth: int) -> Schedule | None:
        """How what is hoisted can be cut."""
        key = tiling.hoisted, tuple(self.kept(tiling, stop))
        if key not in self._before:
            self._before[key] = self._inner_planner(self.hoisted(tiling, stop, "before")[0])
        return self._before[key].plan(room, depth - 1)
