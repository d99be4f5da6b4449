"""What operators say about sizes: which dimensions are the same, and which are computed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.axes import Axis, CoarserError, WholeError, inputs_of, reach
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.printer import op_name
from penstock.passes.core.shapes import shape_of, value_of
from penstock.passes.core.source import source_of
from penstock.passes.resizing.atoms import Atom, ConflictError, Extent, Rule, leaves, size_of, split, unify
from penstock.passes.resizing.literals import UPSAMPLES

aten = torch.ops.aten
VIEWS = (
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int,
    aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
)  # fmt: skip
CREATED = (
    aten.full.default, aten.zeros.default, aten.ones.default, aten.empty.memory_format, aten.empty_permuted.default,
    aten.arange.default, aten.arange.start, aten.arange.start_step, aten.linspace.default, aten.eye.default,
    aten.rand.default, aten.randn.default, aten.new_zeros.default, aten.new_ones.default, aten.new_full.default,
    aten.new_empty.default,
)  # fmt: skip
_COUNTING = (aten.arange.default, aten.arange.start, aten.arange.start_step, aten.linspace.default)
_EXACT = (aten.stack.default, aten.bmm.default)  # sizes of 1 do not broadcast
_SPLITS = (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)

Compute = Callable[[Node, int, int], int]
"""Gives the new size of a dimension of one of a node's results."""


class Relations:
    """The dimensions of the values of one graph, as extents.

    Args:
        compute: finds the size of a dimension that an operator computes, when it is asked for.
        size: finds the new size of a dimension.

    Attributes:
        extents: the dimensions of each node's results.
        before: for slices that take apart what was concatenated, what stands before.
    """

    def __init__(self, compute: Compute, size: Callable[[Extent], int]) -> None:
        self._compute = compute
        self._size = size
        self.extents: dict[Node, list[list[Extent]]] = {}
        self.before: dict[Node, tuple[Extent, ...]] = {}

    def of(self, node: Node) -> list[Extent]:
        """The dimensions of a node's only result."""
        return self.extents[node][0]

    def weight(self, node: Node) -> None:
        """A weight, whose sizes stay."""
        says = f"the weight '{node.target}'"
        self.extents[node] = [[(Atom(size, says, fixed=True),) for size in shape_of(node)]]

    def argument(self, node: Node, says: str) -> None:
        """An argument of the graph."""
        shape = shape_of(node)
        self.extents[node] = [[(Atom(size, f"dimension {dim} of {says}"),) for dim, size in enumerate(shape)]]

    def operator(self, node: Node) -> None:
        """Take note of what an operator says."""
        target = node.target
        if node.args and isinstance(node.args[0], Node) and len(self.extents.get(node.args[0], ())) != 1:
            place: Any = node.args[1]
            self.extents[node] = [self.extents[node.args[0]][place]]
            return
        if target in VIEWS:
            found = [self._viewed(node)]
        elif target in _SPLITS or target is aten.unbind.int:
            found = self._split(node)
        elif target is aten.cat.default:
            found = [self._concatenated(node)]
        elif target is aten.slice.Tensor:
            found = [self._sliced(node)]
        elif target is aten.expand.default:
            found = [self._expanded(node)]
        elif target is aten.index.Tensor:
            found = [self._indexed(node)]
        elif target is aten.repeat.default:
            found = [self._repeated(node)]
        elif target is aten.repeat_interleave.self_int and arguments_of(node)["dim"] is not None:
            found = [self._interleaved(node)]
        else:
            value = value_of(node)
            values = value if isinstance(value, (tuple, list)) else [value]
            found = [[self._extent(node, place, dim) for dim in range(one.dim())] for place, one in enumerate(values)]
        self.extents[node] = found
        self._contract(node)

    def _extent(self, node: Node, place: int, dim: int) -> Extent:
        """One dimension of a result."""
        says = f"dimension {dim} of '{node.name}' ({source_of(node)})"
        value = value_of(node)
        shape = tuple((value[place] if isinstance(value, (tuple, list)) else value).shape)
        size = shape[dim]
        if node.target in CREATED:
            return (Atom(size, says, free=node.target not in _COUNTING),)
        same = self._parallel(node, dim) if isinstance(value, torch.Tensor) else []
        exact = node.target in _EXACT or str(node.target).startswith("penstock.")
        if same and (size > 1 or exact):
            for other in same[1:]:
                unify(same[0], other)
            return same[0]
        if size > 1 and not same:
            first = next(iter(inputs_of(node).values()), None)
            known = self.extents.get(first, []) if first is not None else []
            keeps = len(known) == 1 and shape_of(first) == shape and _keeps_shape(node)  # type: ignore[arg-type]
            if keeps:
                return known[0][dim]
        if size == 1 and node.target is aten.copy.default:
            for other in same[1:]:
                unify(_open(same[0]), _open(other))
            return same[0]
        if size == 1 and same:
            return self._broadcast(same, says)
        return (Atom(size, says, definitions=[self._rule(node, place, dim)]),)

    def _rule(self, node: Node, place: int, dim: int) -> Rule:
        needs = itertools.chain.from_iterable(itertools.chain(*map(self.of, inputs_of(node).values())))
        return Rule(partial(self._compute, node, place, dim), tuple(needs))

    def _broadcast(self, same: Sequence[Extent], says: str) -> Extent:
        """A size of 1 that may become more in any of the arguments that have it."""
        open_ = {tuple(map(id, atoms)): atoms for atoms in map(_open, same) if atoms}
        bound = [atoms for atoms in open_.values() if not all(atom.free for atom in atoms)]
        free = [atoms for atoms in open_.values() if all(atom.free for atom in atoms)]
        found: Extent = (bound or free or [()])[0]
        if len(bound) > 1:
            widest = Rule(lambda: max(map(self._size, bound)), tuple(itertools.chain(*bound)))
            found = (Atom(1, says, definitions=[widest]),)
        for atoms in free:
            unify(found, atoms)
        return found

    def _parallel(self, node: Node, dim: int) -> list[Extent]:
        """The dimensions of arguments that a dimension of the result is the same as."""
        shape = shape_of(node)
        try:
            needs = reach(node, Axis.of(shape, dim))
        except (WholeError, CoarserError):
            return []
        found = []
        sources = inputs_of(node)
        for key, need in needs.items():
            if need is None or need.axis.outer != 1 or need.axis.inner != 1 or need.axis.size != shape[dim]:
                continue
            if need.optional or need.num != 1 or need.den != 1:
                continue
            found.append(self.of(sources[key])[need.axis.dim])
        return found

    def _contract(self, node: Node) -> None:
        """Dimensions of arguments that are the same, though no result has them."""
        target = node.target
        if target in (aten.linear.default, aten.matmul.default, aten.bmm.default, aten.mm.default):
            (_, left), (_, right), *_ = inputs_of(node).items()
            if len(shape_of(right)) > 1:
                unify(self.of(left)[-1], self.of(right)[-1 if target is aten.linear.default else -2])
        elif target in (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default):
            held = arguments_of(node)
            if held["groups"] == 1:
                unify(self.of(held["input"])[1], self.of(held["weight"])[1])
            else:
                _fix(self.of(held["input"])[1], "the channels of a grouped convolution")
        elif target in (aten.layer_norm.default, aten.rms_norm.default):
            held = arguments_of(node)
            if held["weight"] is not None:
                dims = self.of(held["weight"])
                for one, other in zip(self.of(held["input"])[-len(dims) :], dims, strict=True):
                    unify(one, other)
        elif target is aten.group_norm.default and arguments_of(node)["weight"] is not None:
            held = arguments_of(node)
            unify(self.of(held["input"])[1], self.of(held["weight"])[0])
        elif target is aten.scaled_dot_product_attention.default:
            held = arguments_of(node)
            query, key, value = (self.of(held[name]) for name in ("query", "key", "value"))
            unify(query[-1], key[-1])
            unify(key[-2], value[-2])
            for dim in range(len(query) - 2):
                if len(key) == len(query) and shape_of(held["query"])[dim] == shape_of(held["key"])[dim]:
                    unify(query[dim], key[dim])
                    unify(key[dim], value[dim])
            mask = held["attn_mask"]
            if mask is not None:
                for place, extent in ((-1, key[-2]), (-2, query[-2])):
                    own = self.of(mask)[place] if len(shape_of(mask)) >= -place else ()
                    if size_of(own) > 1 or (size_of(extent) == 1 and own and all(atom.free for atom in leaves(own))):
                        unify(own, extent)

    def _concatenated(self, node: Node) -> list[Extent]:
        held = arguments_of(node)
        dim = held["dim"] % len(shape_of(node))
        sources = [self.of(source) for source in held["tensors"] if shape_of(source) != (0,)]
        found = list(sources[0])
        for place in range(len(found)):
            if place != dim:
                for other in sources[1:]:
                    unify(found[place], other[place])
        says = f"dimension {dim} of '{node.name}' ({source_of(node)})"
        terms = tuple(term for source in sources for term in _terms(source[dim]))
        found[dim] = (Atom(shape_of(node)[dim], says, definitions=[self._rule(node, 0, dim)], terms=terms),)
        return found

    def _sliced(self, node: Node) -> list[Extent]:
        held = arguments_of(node)
        dim = held["dim"] % len(shape_of(node))
        found = list(self.of(held["self"]))
        old, size = shape_of(held["self"])[dim], shape_of(node)[dim]
        if size == old:
            if size == 1 and (held["start"] or held["end"] == 1):
                _be_unclear(found[dim], node)
            return found
        says = f"dimension {dim} of '{node.name}' ({source_of(node)})"
        found[dim] = (Atom(size, says, guesses=[self._rule(node, 0, dim)]),)
        if held["step"] == 1:
            start = slice(held["start"], held["end"]).indices(old)[0]
            self._from_terms(node, self.of(held["self"])[dim], start, found[dim])
        return found

    def _from_terms(self, node: Node, whole: Extent, start: int, part: Extent) -> None:
        """A part of what was concatenated."""
        terms = _terms(whole)
        ends = list(itertools.accumulate(map(size_of, terms)))
        starts = [0, *ends[:-1]]
        stop = start + size_of(part)
        if len(terms) < 2 or start not in starts or stop not in ends:
            return
        first, last = starts.index(start), ends.index(stop)
        if first == last:
            unify(terms[first], part)
        else:
            (atom,) = part
            atom.terms = terms[first : last + 1]
            needs = tuple(itertools.chain(*atom.terms))
            atom.definitions.append(Rule(lambda: sum(map(self._size, atom.terms)), needs))
        self.before[node] = terms[:first]

    def _expanded(self, node: Node) -> list[Extent]:
        held = arguments_of(node)
        sizes = held["size"]
        extents = [*[()] * (len(sizes) - len(shape_of(held["self"]))), *self.of(held["self"])]
        found: list[Extent] = []
        for dim, (size, extent) in enumerate(zip(shape_of(node), extents, strict=True)):
            if sizes[dim] == -1 or (size > 1 and size_of(extent) == size):
                found.append(extent)
            else:
                says = f"dimension {dim} of '{node.name}' ({source_of(node)})"
                found.append((Atom(size, says, free=True, guesses=[self._rule(node, 0, dim)]),))
                if size == 1 and _counts(held["self"], extent):
                    _be_unclear(found[-1], node)
        return found

    def _indexed(self, node: Node) -> list[Extent]:
        held = arguments_of(node)
        places = [place for place, index in enumerate(held["indices"]) if index is not None]
        indices = [held["indices"][place] for place in places]
        rank = max(len(shape_of(index)) for index in indices)
        broadcast: list[Extent] = []
        for dim in range(-rank, 0):
            same = [self.of(index)[dim] for index in indices if len(shape_of(index)) >= -dim]
            wide = [extent for extent in same if size_of(extent) > 1]
            for other in wide[1:]:
                unify(wide[0], other)
            says = f"dimension {rank + dim} of the indices of '{node.name}' ({source_of(node)})"
            broadcast.append(wide[0] if wide else self._broadcast(same, says))
        source = self.of(held["self"])
        for place, index in zip(places, indices, strict=True):
            for extent in self.of(index):  # all positions, by number
                if 1 < size_of(extent) == size_of(source[place]) and _counts(index, extent):
                    unify(extent, source[place])
        rest = [extent for place, extent in enumerate(source) if place not in places]
        first = places[0] if places == list(range(places[0], places[-1] + 1)) else 0
        return [*rest[:first], *broadcast, *rest[first:]]

    def _split(self, node: Node) -> list[list[Extent]]:
        """Parts along a dimension; the others are the argument's own."""
        held = arguments_of(node)
        source = held["self"]
        dim = held["dim"] % len(shape_of(source))
        found = []
        start = 0
        for place, value in enumerate(value_of(node)):
            extents = list(self.of(source))
            if node.target is aten.unbind.int:
                del extents[dim]
            else:
                says = f"dimension {dim} of part {place} of '{node.name}' ({source_of(node)})"
                size = value.shape[dim]
                extents[dim] = (Atom(size, says, guesses=[self._rule(node, place, dim)]),)
                self._from_terms(node, self.of(source)[dim], start, extents[dim])
                start += size
            found.append(extents)
        return found

    def _viewed(self, node: Node) -> list[Extent]:
        """The dimensions of a reshape."""
        (source,) = inputs_of(node).values()
        extents = list(self.of(source))
        if node.target is aten.unsqueeze.default:
            extents.insert(arguments_of(node)["dim"] % (len(extents) + 1), ())
            return extents
        shape = shape_of(node)
        found = regrouped(extents, shape)
        if found is not None:
            for place, size in enumerate(shape[1:], 1):
                if size > 1:
                    _note_border(found[place - 1], found[place], node)
            return found
        says = f"a dimension of '{node.name}' ({source_of(node)})"
        needs = tuple(itertools.chain(*extents))
        return [(Atom(size, says, definitions=[Rule(partial(self._unchanged, node, size), needs)]),) for size in shape]

    def _unchanged(self, node: Node, size: int) -> int:
        (source,) = inputs_of(node).values()
        if any(self._size(extent) != old for extent, old in zip(self.of(source), shape_of(source), strict=True)):
            raise ConflictError(
                f"'{node.name}' ({source_of(node)}) reshapes {shape_of(source)} to {shape_of(node)}: which of these "
                "numbers would change cannot be told"
            )
        return size

    def _repeated(self, node: Node) -> list[Extent]:
        held = arguments_of(node)
        source = [(), *[()] * (len(held["repeats"]) - 1)][: len(held["repeats"]) - len(shape_of(held["self"]))]
        extents: list[Extent] = [*source, *self.of(held["self"])]
        says = f"the repetitions of '{node.name}' ({source_of(node)})"
        return [
            extent if times == 1 and (size_of(extent) > 1 or _open(extent)) else (Atom(times, says), *extent)
            for times, extent in zip(held["repeats"], extents, strict=True)
        ]

    def _interleaved(self, node: Node) -> list[Extent]:
        held = arguments_of(node)
        extents = list(self.of(held["self"]))
        dim = held["dim"] % len(extents)
        extents[dim] = (*extents[dim], Atom(held["repeats"], f"the repetitions of '{node.name}' ({source_of(node)})"))
        return extents


def _terms(extent: Extent) -> tuple[Extent, ...]:
    """The dimensions that are concatenated to one."""
    found = leaves(extent)
    return found[0].terms if len(found) == 1 and found[0].terms else (extent,)


def _fix(extent: Extent, says: str) -> None:
    unify(extent, (Atom(math.prod(atom.size for atom in extent), says, fixed=True),))


def _note_border(left: Extent, right: Extent, node: Node) -> None:
    """Two dimensions of a reshape, where factors of 1 stand between, which may belong to either."""
    right = tuple(leaves(right))
    rest = tuple(itertools.dropwhile(lambda atom: atom.size == 1 and not atom.fixed, right))
    between = right[: len(right) - len(rest)]
    if between and _open(left):
        _be_unclear(between, node)


def _be_unclear(extent: Extent, node: Node) -> None:
    for atom in leaves(extent):
        atom.unclear = f"what '{node.name}' ({op_name(node)}, {source_of(node)}) does with another size"


def _counts(node: Node, extent: Extent) -> bool:
    """Whether the positions along a dimension are numbered."""
    while node.target not in _COUNTING and len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes
    return node.target in _COUNTING and bool(extent)


def _keeps_shape(node: Node) -> bool:
    """Whether an operator whose result has the shape of its argument always has it, dimension by dimension."""
    return node.target not in (*UPSAMPLES, aten.slice.Tensor, aten.cat.default, aten.matmul.default, aten.mm.default,
                               aten.bmm.default, aten.linear.default, aten.embedding.default, aten.permute.default,
                               aten.transpose.int, aten.t.default, aten.constant_pad_nd.default, aten.expand.default,
                               aten.index.Tensor, aten.index_select.default, aten.gather.default)  # fmt: skip


def _open(extent: Extent) -> Extent:
    """The factors that may change."""
    return tuple(atom for atom in leaves(extent) if not atom.fixed)


def regrouped(source: Sequence[Extent], shape: Sequence[int]) -> list[Extent] | None:
    """The factors of a value, in order, taken together anew for a reshape; None where they do not meet its sizes."""
    left = leaves(atom for extent in source for atom in extent)
    found: list[list[Atom]] = []
    for size in shape:
        taken: list[Atom] = []
        need = size
        while left and (need > 1 or (size == 1 and left[0].size == 1 and not taken)):
            atom = left.pop(0)
            if atom.parts:  # split meanwhile
                left = [*leaves([atom]), *left]
                continue
            if atom.size > need and atom.size % need == 0:
                atom, rest = split(atom, need)
                left.insert(0, rest)
            elif not atom.size or need % atom.size:
                return None
            taken.append(atom)
            need //= atom.size
        if need != 1:
            return None
        found.append(taken)
    if left and found:
        found[-1] += left
    return [tuple(extent) for extent in found]
