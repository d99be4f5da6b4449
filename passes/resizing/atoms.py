"""Atoms: the numbers that the sizes of a graph are products of, and which of them are one and the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Extent = tuple["Atom", ...]
"""The factors of a dimension, the outermost first; none for a 1 that stays 1."""
_order = itertools.count()


@dataclass(frozen=True, eq=False)
class Rule:
    """What computes a new size from others.

    Attributes:
        size: computes it.
        needs: the factors that it is computed from.
        wholes: the atoms that were split of which it needs to know what they are told to be.
        order: the earlier, the sooner it is tried.
    """

    size: Callable[[], int]
    needs: Extent
    wholes: Extent = ()
    order: int = field(default_factory=_order.__next__)


@dataclass(eq=False)
class Atom:
    """A factor of a size.

    Attributes:
        size: as captured.
        says: why it is what it is, for messages.
        fixed: whether nothing can change it, as the extent of a weight.
        free: whether the value is made for whoever needs it, as a mask is, and can have any size.
        unclear: why nobody can tell what another size of it would mean, if so.
        asked: the size that the user asks for.
        definitions: what computes its new size, where an operator does.
        guesses: likewise, where nothing else tells it.
        terms: the dimensions that are concatenated to it, if any are.
        same: the atom that stands for this one; None where it stands for itself.
        parts: the factors that it was split into, the outermost first.
        owners: the atoms of which it is a part.
    """

    size: int
    says: str = ""
    fixed: bool = False
    free: bool = False
    unclear: str = ""
    asked: int | None = None
    definitions: list[Rule] = field(default_factory=list)
    guesses: list[Rule] = field(default_factory=list)
    terms: tuple[Extent, ...] = ()
    same: Atom | None = None
    parts: tuple[Atom, ...] = ()
    owners: list[Atom] = field(default_factory=list)


class ConflictError(Exception):
    """Two numbers that have to be the same cannot be; the text says why."""


def root(atom: Atom) -> Atom:
    """The atom that stands for an atom."""
    while atom.same is not None:
        atom = atom.same
    return atom


def leaves(extent: Iterable[Atom]) -> list[Atom]:
    """The factors of a dimension as far as they are split."""
    found: list[Atom] = []
    for atom in map(root, extent):
        found += leaves(atom.parts) if atom.parts else [atom]
    return found


def size_of(extent: Iterable[Atom]) -> int:
    """The size of a dimension as captured."""
    return math.prod(atom.size for atom in extent)


def unify(one: Extent, other: Extent) -> None:
    """Two dimensions of equal size are the same. Where their factors do not meet, nothing is said about them."""
    left, right = leaves(one), leaves(other)
    while left and right:
        a, b = root(left.pop(0)), root(right.pop(0))
        if a.parts or b.parts:  # split meanwhile
            left, right = [*leaves([a]), *left], [*leaves([b]), *right]
        elif a.size == b.size:
            _merge(a, b)
        elif a.size == 1:
            left, right = _one_more(a, left, b, right)
        elif b.size == 1:
            right, left = _one_more(b, right, a, left)
        elif a.size % b.size == 0:
            left, right = [*split(a, b.size), *left], [b, *right]
        elif b.size % a.size == 0:
            left, right = [a, *left], [*split(b, a.size), *right]
        else:
            return


def _one_more(one: Atom, rest: list[Atom], atom: Atom, others: list[Atom]) -> tuple[list[Atom], list[Atom]]:
    """A factor of 1 that only one of two dimensions names: it is one of the other's as well, if that can change."""
    if atom.fixed or atom in leaves(rest):
        return rest, [atom, *others]
    return [one, *rest], [*split(atom, 1), *others]


def split(atom: Atom, outer: int) -> tuple[Atom, Atom]:
    """Split an atom into an outer factor and the rest, everywhere."""
    atom = root(atom)
    first, rest = (Atom(size, atom.says, atom.fixed, owners=[atom]) for size in (outer, atom.size // outer))
    atom.parts = first, rest
    if len(atom.terms) == outer and all(size_of(term) == rest.size for term in atom.terms):  # stacked
        first.fixed = True
        for term in atom.terms:
            unify((rest,), term)
    return first, rest


def _merge(one: Atom, other: Atom) -> None:
    if one is other:
        return
    other.same = one
    if other.fixed and not one.fixed:
        one.fixed, one.says = True, other.says
    one.says = one.says or other.says
    one.free = one.free and other.free
    one.unclear = one.unclear or other.unclear
    if one.asked is not None and other.asked is not None and one.asked != other.asked:
        raise ConflictError(f"{one.says} is to be {one.asked}, {other.says} {other.asked}, but they are the same")
    if one.asked is None and other.asked is not None:
        one.asked, one.says = other.asked, other.says if not one.fixed else one.says
    one.definitions += other.definitions
    one.guesses += other.guesses
    one.owners += other.owners
    if not one.terms:
        one.terms = other.terms
    elif list(map(size_of, one.terms)) == list(map(size_of, other.terms)):
        for pair in zip(one.terms, other.terms, strict=True):
            unify(*pair)
