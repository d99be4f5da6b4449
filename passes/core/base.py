"""What a pass is, and how one is found by name.

A pass is a frozen dataclass whose fields are its options. It lives in one file, is registered by `@register`, and takes
a Program to a new Program (or returns the same object for "no change")::

    @register
    @dataclass(frozen=True)
    class DropDropout(RewritePass):
        \"\"\"Remove dropout, which does nothing at inference.\"\"\"

        operators: ClassVar[Operators] = (aten.dropout.default,)

        def rewrite(self, node: Node, emit: Emitter) -> Replacement:
            return node.args[0]

Other packages add passes through the entry-point group ``penstock.passes``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from torch.fx import GraphModule, Node

from penstock.passes.core.context import Context
from penstock.passes.core.errors import InvalidProgramError
from penstock.passes.core.printer import format_call, format_type
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Emitter, Rewriter, Unwilling, UnwillingError

Exactness = Literal["exact", "lossy"]


@dataclass(frozen=True)
class Pass(ABC):
    """A named rewrite of a Program. Subclasses are frozen dataclasses; their fields are the options.

    Attributes:
        exactness: ``exact`` passes keep every output equal up to rounding, and are checked for it; ``lossy`` passes
            may change outputs, and report by how much.
    """

    exactness: ClassVar[Exactness] = "exact"

    @classmethod
    def name(cls) -> str:
        """The pass's name in presets, on the command line and in files: ``DeadCode`` is ``dead-code``."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else ""

    @abstractmethod
    def run(self, program: Program, context: Context) -> Program:
        """Rewrite the Program. Return the same object when nothing changed; say why in ``context.decline``."""


@dataclass(frozen=True)
class Refusal:
    """Why a rewrite left one node alone."""

    reason: str


Replacement = Node | Sequence[Node] | Refusal | None
Operators = tuple[Any, ...]


class RewritePass(Pass):
    """A pass that looks at single operators and replaces some of them.

    A subclass names the operators it looks at and says for each such node what stands in its place. The rest (copying
    the graph, inferring shapes, keeping names and source lines, noticing that nothing changed) is done here.
    """

    operators: ClassVar[Operators] = ()

    @abstractmethod
    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """What replaces `node`: a node, a sequence of nodes for a tuple, a `Refusal`, or None to leave it.

        It may be asked twice of a node: first whether there is anything to do in a graph at all.
        """

    def run(self, program: Program, context: Context) -> Program:
        """Apply `rewrite` to every node that calls one of `operators`, in order."""
        changed = {}
        for name, module in program.graphs.items():
            declined = self._declined(module)
            if declined is not None:
                for node, refusal in declined:
                    context.decline(self.name(), node, refusal.reason)
                continue
            edit = Rewriter(module, self.name())
            replaced = 0
            for node in edit.nodes(*self.operators):
                answer = self.rewrite(node, edit.at(node))
                if isinstance(answer, Refusal):
                    context.decline(self.name(), node, answer.reason)
                elif answer is not None:
                    if self.exactness == "exact":
                        check_type(self.name(), node, answer)
                    edit.replace(node, answer)
                    replaced += 1
            if replaced:
                changed[name] = edit.finish(name)
        return program.with_graphs(**changed) if changed else program

    def _declined(self, module: GraphModule) -> list[tuple[Node, Refusal]] | None:
        """What the pass refuses in a graph in which it changes nothing; None where it changes something.

        Most graphs of a sliced Program are of this kind, and to copy one costs more than to look at it.
        """
        operators = frozenset(self.operators)
        declined = []
        for node in module.graph.nodes:
            if node.op != "call_function" or node.target not in operators:
                continue
            try:
                answer = self.rewrite(node, Unwilling(node))
            except UnwillingError:
                return None
            if isinstance(answer, Refusal):
                declined.append((node, answer))
            elif answer is not None:
                return None
        return declined


def check_type(made_by: str, node: Node, replacement: Node | Sequence[Node]) -> None:
    """Raise `InvalidProgramError` unless a replacement has the shape and dtype of what it replaces."""
    if isinstance(replacement, Node):
        pairs = [(node, replacement)]
    else:
        pairs = [(user, replacement[int(user.args[1])]) for user in node.users]  # type: ignore[arg-type]
    for old, new in pairs:
        expected, found = format_type(old.meta["val"]), format_type(new.meta["val"])
        if expected != found:
            raise InvalidProgramError(
                f"{made_by}: replaced '{old.name}' ({format_call(old)}), which is {expected}, "
                f"by '{new.name}' ({format_call(new)}), which is {found}"
            )


_REGISTRY: dict[str, type[Pass]] = {}
PassType = TypeVar("PassType", bound=type[Pass])


def register(pass_type: PassType) -> PassType:
    """Class decorator: make a pass known by its name. Two passes of one name are an error."""
    name = pass_type.name()
    known = _REGISTRY.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (pass_type.__module__, pass_type.__qualname__):
        raise InvalidProgramError(f"two passes are called '{name}': {known.__module__} and {pass_type.__module__}")
    if not pass_type.summary():
        raise InvalidProgramError(f"pass '{name}' ({pass_type.__module__}) has no docstring")
    _REGISTRY[name] = pass_type
    return pass_type


def registered() -> dict[str, type[Pass]]:
    """The passes registered so far, by name."""
    return dict(sorted(_REGISTRY.items()))
