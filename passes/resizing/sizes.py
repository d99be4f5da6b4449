"""New sizes for atoms: each operator computes what follows from it, and where nothing tells, a guess is made."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from penstock.passes.resizing.atoms import Atom, ConflictError, Extent, Rule, leaves, root

_Unknown = tuple[Atom, bool]
"""An atom, and whether what is unknown is what it is told to be as a whole, though it was split into factors."""


class Sizes:
    """The new sizes of a graph's dimensions."""

    def __init__(self) -> None:
        self._known: dict[_Unknown, int] = {}

    def of(self, extent: Iterable[Atom]) -> int:
        """The new size of a dimension; it needs to be solved."""
        return math.prod(self._known[atom, False] for atom in leaves(extent))

    def shape(self, extents: Sequence[Extent]) -> tuple[int, ...]:
        """The new sizes of some dimensions."""
        return tuple(map(self.of, extents))

    def solve(self, atoms: Iterable[Atom]) -> None:
        """Find the new sizes of all factors of some atoms.

        What an operator computes counts as soon as all that it is computed from is known. When nothing more follows,
        the first atom that there is a guess for is guessed; when there is no guess, the first one stays as it is.
        A factor that can take what the others of its dimension leave comes last.

        Raises:
            ConflictError: an operator cannot run on the sizes that follow.
        """
        rules, guesses = self._rules(atoms)
        waiting: dict[_Unknown, list[tuple[_Unknown, Rule]]] = {}
        missing: dict[Rule, int] = {}
        ready: deque[tuple[_Unknown, Rule]] = deque()
        for unknown, computed in rules.items():
            for rule in computed:
                needs = {(atom, False) for atom in leaves(rule.needs)} | {(atom, True) for atom in rule.wholes}
                missing[rule] = sum(need not in self._known for need in needs)
                for need in needs:
                    waiting.setdefault(need, []).append((unknown, rule))
                if not missing[rule]:
                    ready.append((unknown, rule))

        def know(unknown: _Unknown, size: int) -> None:
            self._known[unknown] = size
            _check(unknown[0], size)
            for other, rule in waiting.get(unknown, ()):
                missing[rule] -= 1
                if not missing[rule]:
                    ready.append((other, rule))

        left = deque(sorted(rules, key=lambda each: (each[1], any(rule.wholes for rule in rules[each]))))
        while True:
            while ready:
                unknown, rule = ready.popleft()
                if unknown not in self._known:
                    know(unknown, rule.size())
            while left and left[0] in self._known:
                left.popleft()
            if not left:
                return
            guessed = next(
                (
                    (unknown, guess)
                    for unknown in left
                    if unknown not in self._known
                    for guess in guesses.get(unknown, ())
                    if all((atom, False) in self._known for atom in leaves(guess.needs))
                ),
                None,
            )
            if guessed is not None:
                know(guessed[0], guessed[1].size())
            else:
                know(left[0], left[0][0].size)

    def _rules(self, atoms: Iterable[Atom]) -> tuple[dict[_Unknown, list[Rule]], dict[_Unknown, list[Rule]]]:
        """For all that is unknown, by the order in which it came up, what computes it and what guesses at it."""
        rules: dict[_Unknown, list[Rule]] = {}
        guesses: dict[_Unknown, list[Rule]] = {}
        for atom in dict.fromkeys(leaves(atoms)):
            if atom.fixed or atom.asked is not None:
                self._known[atom, False] = atom.size if atom.asked is None or atom.fixed else atom.asked
                _check(atom, self._known[atom, False])
                continue
            found = sorted(atom.definitions, key=lambda rule: rule.order)
            for whole in _wholes(atom):
                parts = leaves([whole])
                if atom in _takers(parts):
                    found.append(self._remainder(whole, [part for part in parts if part is not atom]))
                    if whole.asked is not None:
                        self._known[whole, True] = whole.asked
                    else:
                        rules[whole, True] = sorted(whole.definitions, key=lambda rule: rule.order)
            if found or atom.guesses:
                rules[atom, False] = found
                guesses[atom, False] = sorted(atom.guesses, key=lambda rule: rule.order)
            else:
                self._known[atom, False] = atom.size
        return rules, guesses

    def _remainder(self, whole: Atom, others: Sequence[Atom]) -> Rule:
        def size() -> int:
            told, rest = self._known[whole, True], self.of(others)
            if told % rest:
                raise ConflictError(f"{whole.says} would be {told}, which has to be a multiple of {rest}")
            return told // rest

        return Rule(size, tuple(others), (whole,))


def _check(atom: Atom, size: int) -> None:
    if atom.unclear and size != atom.size and not atom.parts:
        raise ConflictError(
            f"{atom.says} was {atom.size}, which leaves open {atom.unclear}; capture the model with 2 or more there"
        )


def _takers(parts: Sequence[Atom]) -> list[Atom]:
    """The factors that may take what the others leave: the first of which nothing else is told, if there is one."""
    open_ = [part for part in parts if not part.fixed and part.asked is None]
    return [part for part in open_ if not part.definitions][:1] or open_


def _is_told(atom: Atom) -> bool:
    """Whether the user asks for its size or an operator computes it."""
    return atom.asked is not None or bool(atom.definitions)


def _wholes(atom: Atom) -> Iterator[Atom]:
    """The atoms that an atom is a part of and whose size is told."""
    for owner in map(root, atom.owners):
        if _is_told(owner) and not owner.fixed:
            yield owner
        yield from _wholes(owner)
