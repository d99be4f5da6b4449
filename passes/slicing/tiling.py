"""A run of operators cut along an axis: what is made in parts, what is needed whole, and how far parts reach.

Demand runs backwards: a part of the run's result asks for ranges of its operands' axes
(`penstock.passes.analysis.axes`), those for ranges of theirs, up to the values from before the run. What an operator
needs whole is made before the loop.

Source: the rules of legality are ours; grouping and slicing follow Zhan et al., "Fast and Memory-Efficient Video
Diffusion Using Streamlined Inference", NeurIPS 2024, sections 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from torch.fx import Node

from penstock.passes.analysis.axes import Axis, CoarserError, Reach, WholeError, inputs_of, reach
from penstock.passes.analysis.axes.rules import Needs

Range = tuple[int, int]
Window = tuple[Node, Axis]
"""A value from before the loop, and the axis along which the loop takes it in parts."""
_TRIES = 12


@dataclass(frozen=True)
class Tiling:
    """A run that can be made in parts.

    Attributes:
        sliced: the operators that each part runs, in order.
        hoisted: the operators that run once before the loop, in order: something needs their results whole.
        axes: of every result of `sliced`.
        needs: of every operator of `sliced`.
        outputs: the results of `sliced` that are used after the run.
        size: the most parts that there can be.
    """

    sliced: tuple[Node, ...]
    hoisted: tuple[Node, ...]
    axes: Mapping[Node, Axis]
    needs: Mapping[Node, Needs]
    outputs: tuple[Node, ...]
    size: int


@dataclass
class Spans:
    """One part of a tiling: the positions of everything it touches.

    Attributes:
        made: the positions of each result that the part makes.
        tiles: the positions of each output that are this part's own.
        windows: the positions of each value from before the loop.
        padding: for each operator and argument, what it needs beyond the borders.
    """

    made: dict[Node, Range] = field(default_factory=dict)
    tiles: dict[Node, Range] = field(default_factory=dict)
    windows: dict[Window, Range] = field(default_factory=dict)
    padding: dict[Node, dict[str, tuple[int, int]]] = field(default_factory=dict)


def tile(run: Sequence[Node], outputs: Set[Node], seed: Node, axis: Axis) -> Tiling:
    """Cut a run along an axis of one of its results.

    Args:
        run: operators in order; nothing outside of it may lie between them that they depend on.
        outputs: those whose results are needed after the run.
        seed: one of the outputs.

    Raises:
        WholeError: it cannot be cut; the text says why.
    """
    for _ in range(_TRIES):
        try:
            return _tile(run, outputs, seed, axis)
        except CoarserError as limit:
            if limit.size >= axis.size or axis.size % limit.size:
                break
            axis = axis.coarser(limit.size)
            if axis.size < 2:
                break
    raise WholeError("its positions hang together")


def _tile(run: Sequence[Node], outputs: Set[Node], seed: Node, axis: Axis) -> Tiling:
    inside = set(run)
    axes: dict[Node, Axis] = {seed: axis}
    needs: dict[Node, Needs] = {}
    whole: set[Node] = set()
    for node in reversed(run):
        if node in axes and node not in whole:
            try:
                needs[node] = _needs(node, axes[node])
            except WholeError:
                if node is seed:
                    raise
                whole.add(node)
        elif node in outputs:
            whole.add(node)  # another result, which does not follow the axis
        sources = inputs_of(node) if node in needs else dict(enumerate(node.all_input_nodes))
        for key, source in sources.items():
            if source not in inside:
                continue
            found = needs[node][str(key)] if node in needs else None
            if node in whole or (node in needs and (found is None or axes.get(source, found.axis) != found.axis)):
                whole.add(source)
            elif found is not None:
                axes[source] = found.axis
    if seed in whole:
        raise WholeError("the result itself is needed whole")
    sliced = tuple(node for node in run if node in needs and node not in whole)
    return Tiling(
        sliced=sliced,
        hoisted=tuple(node for node in run if node in whole),
        axes={node: axes[node] for node in sliced},
        needs={node: needs[node] for node in sliced},
        outputs=tuple(node for node in sliced if node in outputs),
        size=axis.size,
    )


def _needs(node: Node, axis: Axis) -> Needs:
    found = reach(node, axis)
    for key, source in inputs_of(node).items():
        if source.op == "get_attr" and found[key] is not None:
            raise WholeError(f"'{node.name}' would need parts of the weight '{source.target}'")
    return found


def spans(tiling: Tiling, low: int, high: int) -> Spans:
    """What the part low … high-1 of the seed's axis touches.

    Raises:
        WholeError: an output has no whole number of positions in this part.
    """
    found = Spans()
    for output in tiling.outputs:
        size = tiling.axes[output].size
        if low * size % tiling.size or high * size % tiling.size:
            raise WholeError(f"'{output.name}' has {size} positions for {tiling.size}")
        found.tiles[output] = (low * size // tiling.size, high * size // tiling.size)
        found.made[output] = found.tiles[output]
    sliced = set(tiling.sliced)
    for node in reversed(tiling.sliced):
        if node not in found.made:  # used by nothing but what is whole
            continue
        padding = found.padding.setdefault(node, {})
        for key, source in inputs_of(node).items():
            need = tiling.needs[node][key]
            if need is None:
                continue
            (first, last), padding[key] = clipped(need, found.made[node])
            if first >= last:
                raise WholeError(f"a part of '{node.name}' would be nothing but padding")
            if source in sliced:
                known = found.made.get(source, (first, last))
                found.made[source] = min(known[0], first), max(known[1], last)
            else:
                window = source, need.axis
                known = found.windows.get(window, (first, last))
                found.windows[window] = min(known[0], first), max(known[1], last)
    return found


def clipped(need: Reach, made: Range) -> tuple[Range, tuple[int, int]]:
    """The positions that exist of those needed, and how many lie before and behind them."""
    first, last = need.needs(*made)
    size = need.axis.size
    low, high = min(max(first, 0), size), max(min(last, size), 0)
    return (low, high), (low - first, last - high)
