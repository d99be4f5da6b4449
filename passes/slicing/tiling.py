"""A run of operators cut along an axis: what is made in parts, what is needed whole, and how far parts reach.

Demand runs backwards: a part of the run's result asks for ranges of its operands' axes
(`penstock.passes.analysis.axes`), those for ranges of theirs, up to the values from before the run. What an operator
needs whole is made before the loop.

Source: the rules of legality are ours; grouping and slicing follow Zhan et al., "Fast and Memory-Efficient Video
Diffusion Using Streamlined Inference", NeurIPS 2024, sections 3.1 and 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import torch
from torch.fx import Node

from penstock.passes.analysis.axes import Axis, CoarserError, Reach, WholeError, reach
from penstock.passes.analysis.axes.reductions import MERGES, reduces
from penstock.passes.analysis.axes.rules import Needs
from penstock.passes.core.aliases import is_view
from penstock.passes.core.ops import ATTENTION
from penstock.passes.core.shapes import value_of
from penstock.passes.slicing.facts import Facts
from penstock.passes.slicing.parts import scale

aten = torch.ops.aten
PART_OF = "part_of"
"""In the meta of an operator of a part: the name of the operator that it is a part of, with what it crops and pads."""
_TRIES = 12


@dataclass(frozen=True)
class Tiling:
    """A run that can be made in parts.

    Attributes:
        sliced: the operators that each part runs, in order.
        hoisted: the operators that run once before the loop, in order: something needs their results whole. Cheap ones
            may be in `sliced` too: making a part again takes less memory than keeping the whole.
        axes: of every result of `sliced`.
        needs: of every operator of `sliced`.
        sources: its tensor arguments by key.
        outputs: the results of `sliced` that are used after the run.
        size: the positions that are cut in parts.
        sweeps: reductions that `sliced` needs whole, of values that `sliced` makes, in order; they run after `hoisted`.
        could_sweep: whether anything that is made whole is such a reduction.
        facts: about the nodes of the graph.
        made, fronts, leads: what `spans` found out about this tiling.
    """

    sliced: tuple[Node, ...]
    hoisted: tuple[Node, ...]
    axes: Mapping[Node, Axis]
    needs: Mapping[Node, Needs]
    sources: Mapping[Node, Mapping[str, Node]]
    outputs: tuple[Node, ...]
    size: int
    sweeps: tuple[Sweep, ...] = ()
    could_sweep: bool = False
    facts: Facts = field(default_factory=Facts, compare=False, repr=False)
    made: dict[Node, tuple[int, int]] = field(default_factory=dict, init=False, compare=False, repr=False)
    fronts: dict[int, Mapping[Node, int]] = field(default_factory=dict, init=False, compare=False, repr=False)
    leads: dict[bool, int] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def reads(self) -> Mapping[Node, tuple[tuple[str, Node, Reach], ...]]:
        """What each operator takes in parts: the argument's key, its value, and which positions of that."""
        return {
            node: tuple(
                (key, source, need)
                for key, source in self.sources[node].items()
                if (need := self.needs[node][key]) is not None
            )
            for node in self.sliced
        }

    @cached_property
    def has_halos(self) -> bool:
        """Whether parts overlap in something that they make."""
        reads = (each for node in self.sliced for each in self.reads[node])
        return any(not need.is_parallel and source in self.needs for _, source, need in reads)

    @cached_property
    def padded(self) -> Mapping[Node, tuple[int, int]]:
        """For operators whose first or last positions read nothing but padding: the range of those between."""
        found: dict[Node, tuple[int, int]] = {}
        for node in self.sliced:
            size = self.axes[node].size
            low, high = 0, size
            for _, _, need in self.reads[node]:
                if not need.optional:
                    while low < size and need.needs(low, low + 1)[1] <= 0:
                        low += 1
                    while high > low and need.needs(high - 1, high)[0] >= need.axis.size:
                        high -= 1
            if (low, high) != (0, size):
                found[node] = low, high
        return found

    @cached_property
    def scales(self) -> Mapping[Node, Fraction]:
        """Positions of each output for one that is cut."""
        return {output: scale(self.axes[output].size, self.size) for output in self.outputs}

    @cached_property
    def unit(self) -> int:
        """What parts have to be multiples of, so that they have whole positions of every output."""
        return math.lcm(*(each.denominator for each in self.scales.values()))

    @cached_property
    def period(self) -> int:
        """Parts that begin this many positions apart are alike: all that they touch lies whole positions apart."""
        rates = dict(self.scales)
        for node in reversed(self.sliced):
            for _, source, need in self.reads[node] if node in rates else ():
                rates.setdefault(source, rates[node] * need.num / need.den)
        return math.lcm(*(each.denominator for each in rates.values()))


@dataclass(frozen=True)
class Sweep:
    """A reduction that is made in parts, in a loop of its own, which makes what it reduces and keeps nothing of it.

    Attributes:
        node: the reduction, along the axis, of the only output of `tiling`.
        tiling: the operators that lead to what it reduces.
    """

    node: Node
    tiling: Tiling


class Tiler:
    """Cuts runs of one graph; what the rules answer is asked once.

    Args:
        largest: bytes that no single value may exceed; None for no limit.
    """

    def __init__(self, largest: int | None = None) -> None:
        self.facts = Facts(largest)
        self._answers: dict[tuple[Node, Axis], Needs | WholeError | CoarserError] = {}

    def tile(self, run: Sequence[Node], outputs: Set[Node], seed: Node, axis: Axis, sweeping: bool = False) -> Tiling:
        """Cut a run along an axis of one of its results.

        Args:
            run: operators in order; nothing outside of it may lie between them that they depend on.
            outputs: those whose results are needed after the run.
            seed: one of the outputs.
            sweeping: make reductions along the axis in parts too, where without that a value would be made whole for
                them.

        Raises:
            WholeError: it cannot be cut; the text says why.
        """
        coarse = axis
        for _ in range(_TRIES):
            try:
                return self._tile(run, outputs, seed, coarse, sweeping, fine=False)
            except CoarserError as limit:
                if limit.size >= coarse.size or coarse.size % limit.size or limit.size < 2:
                    break
                coarse = coarse.coarser(limit.size)
            except WholeError:
                if coarse is axis:
                    raise
                break
        try:
            return self._tile(run, outputs, seed, axis, sweeping, fine=True)
        except CoarserError:
            raise WholeError("its positions hang together") from None

    def _tile(
        self, run: Sequence[Node], outputs: Set[Node], seed: Node, axis: Axis, sweeping: bool, fine: bool
    ) -> Tiling:
        inside = set(run)
        axes: dict[Node, Axis] = {seed: axis}
        needs: dict[Node, Needs] = {}
        whole: set[Node] = set()
        mixed: set[Node] = set()  # needed along several axes
        swept: list[Node] = []
        for node in reversed(run):
            if node in axes and (node not in whole or self.facts[node].is_cheap):
                try:
                    needs[node] = self._needs(node, axes[node], fine)
                except WholeError:
                    if node is seed:
                        raise
                    whole.add(node)
            elif node in outputs:
                whole.add(node)  # another result, which does not follow the axis
            if node in whole and node.target in MERGES and reduces(node, axes):
                swept.append(node)
                if sweeping:
                    continue
            found = needs.get(node)
            for key, source in self.facts[node].sources.items() if found is not None else ():
                need = found[key] if found is not None else None
                if source in inside and need is not None and axes.setdefault(source, need.axis) != need.axis:
                    mixed.add(source)
                if source in inside and (need is None or node in whole or source in mixed):
                    whole.add(source)
            if found is None and node in whole:
                whole |= self.facts[node].operands & inside
        if seed in whole:
            raise WholeError("the result itself is needed whole")
        sliced: dict[Node, None] = {}

        def comes_from_parts(node: Node) -> bool:
            parts = [source for key, source in self.facts[node].sources.items() if needs[node][key] is not None]
            return all(source in sliced for source in parts if source in inside)

        for node in run:
            if node not in needs or node in mixed:
                continue
            if node not in whole or self.facts[node].is_view or comes_from_parts(node):
                sliced[node] = None
        reductions = [node for node in reversed(swept) if sweeping and node.all_input_nodes[0] not in whole]
        made = Tiling(
            sliced=tuple(sliced),
            hoisted=tuple(node for node in run if node in whole and node not in reductions),
            axes={node: axes[node] for node in sliced},
            needs={node: needs[node] for node in sliced},
            sources={node: self.facts[node].sources for node in sliced},
            outputs=tuple(node for node in sliced if node in outputs and node not in whole),
            size=axis.size,
            could_sweep=bool(swept),
            facts=self.facts,
        )
        if reductions and any(source in reductions for node in made.hoisted for source in node.all_input_nodes):
            raise WholeError("what is needed whole comes from a reduction along the axis")
        sweeps = tuple(Sweep(node, _leading_to(node.all_input_nodes[0], made)) for node in reductions)
        return replace(made, sweeps=sweeps)

    def _needs(self, node: Node, axis: Axis, fine: bool) -> Needs:
        answer = self._answers.get((node, axis))
        if answer is None:
            answer = self._answers[node, axis] = self._asked(node, axis)
        if isinstance(answer, CoarserError) and answer.reach is not None and fine:
            return dict.fromkeys(self.facts[node].sources, answer.reach)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _asked(self, node: Node, axis: Axis) -> Needs | WholeError | CoarserError:
        try:
            needs = reach(node, axis)
        except (WholeError, CoarserError) as error:
            return error
        sources = self.facts[node].sources
        taken = [source for key, source in sources.items() if source.op == "get_attr" and needs[key] is not None]
        if taken and not self._takes_tables(node, needs):
            return WholeError(f"'{node.name}' would need parts of the weight '{taken[0].target}' alone")
        return needs

    def _takes_tables(self, node: Node, needs: Needs) -> bool:
        """Whether an operator may take a weight in parts: not where each part would need all of the other arguments."""
        others = [needs[key] for key, source in self.facts[node].sources.items() if source.op != "get_attr"]
        is_pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
        free = is_view(node) or is_pointwise or node.target in (aten.cat.default, aten.copy.default)
        return free or not others or any(need is not None for need in others)


def looked_at(node: Node, source: Node) -> Node:
    """What an operator of a part takes for an argument that it needs whole: the value that a view looks into.

    Attention reads permuted queries, keys and values where they lie, so a part makes their views itself. Any other
    kernel would make a copy, which is better made once.
    """
    if node.target not in ATTENTION:
        return source
    while source.op == "call_function" and is_view(source) and source.all_input_nodes == [source.args[0]]:
        if not isinstance(value_of(source.all_input_nodes[0]), torch.Tensor):
            break  # one of several results
        source = source.all_input_nodes[0]
    return source


def _leading_to(value: Node, tiling: Tiling) -> Tiling:
    """The operators of a tiling that one of its values comes from, cut the same way."""
    needed = {value}
    for node in reversed(tiling.sliced):
        if node in needed:
            needed.update(source for _, source, _ in tiling.reads[node])
    sliced = tuple(node for node in tiling.sliced if node in needed)
    return replace(tiling, sliced=sliced, hoisted=(), outputs=(value,), size=tiling.axes[value].size)
