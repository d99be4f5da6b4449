"""A slicing plan as a file that a person reads and edits, and that is followed again.

::

    {"attention": "fused", "graphs": {"main": {"recompute_above": null, "groups": [
      {"first": "linear", "last": "linear_1", "dim": 1, "cut": {"parts": 16}, …}]}}}

A group runs the operators from `first` to `last` in parts: its largest result is cut along `dim`. Parts are as even as
their number allows, and the last may be smaller: 4 parts of 13 positions have 4, 4, 4 and 1. Where `again` is given,
each part is cut again, to that many bytes. With `keeps_halos`, each part keeps what the next one needs again; otherwise
that is made again. What a file says of bytes, seconds and operators is for the reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from penstock.passes.analysis.axes import WholeError
from penstock.passes.analysis.memory import Attention
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Program
from penstock.passes.slicing.choose import DEPTH, Choice, planner_of
from penstock.passes.slicing.cuts import CutRecipe
from penstock.passes.slicing.groups import Group
from penstock.passes.slicing.planner import Planner


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GroupRecipe(_Strict):
    """A group.

    Attributes:
        hoisted: the bytes to which what runs before the loops is cut; None where it runs as it is.
        saved: bytes that the graph needs less while the group runs.
        seconds, flops: what it adds, as estimated.
    """

    first: str
    last: str
    dim: int
    cut: CutRecipe
    sweeps: tuple[CutRecipe, ...] = ()
    hoisted: PositiveInt | None = None
    operators: int = 0
    size: int = 0
    bytes: int = 0
    saved: int = 0
    seconds: float = 0.0
    flops: int = 0


class GraphRecipe(_Strict):
    """The groups of one graph, in order; what lies between them runs as it is."""

    recompute_above: int | None = None
    groups: tuple[GroupRecipe, ...]
    bytes: int = 0
    seconds: float = 0.0


class SlicingPlan(_Strict):
    """A plan for the graphs of a Program by name."""

    version: Literal[1] = 1
    attention: Attention = "fused"
    graphs: Mapping[str, GraphRecipe]

    @staticmethod
    def read(path: Path) -> SlicingPlan:
        """The plan in a file.

        Raises:
            UsageError: there is no such file, or it is no plan; with the first thing that is wrong.
        """
        try:
            return SlicingPlan.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise UsageError(f"{path} is no slicing plan: {place}: {first['msg']}") from error


def recipe_of(choice: Choice) -> GraphRecipe:
    """A choice, written down."""
    planner, schedule = choice.planner, choice.schedule
    groups = tuple(_group_recipe(planner, group) for group in schedule.groups)
    return GraphRecipe(
        recompute_above=choice.recompute, groups=groups, bytes=schedule.bytes, seconds=round(schedule.seconds, 6)
    )


def _group_recipe(planner: Planner, group: Group) -> GroupRecipe:
    nodes = planner.line.nodes
    return GroupRecipe(
        first=nodes[group.start].name,
        last=nodes[group.stop - 1].name,
        dim=group.axis.dim,
        cut=group.cut.recipe,
        sweeps=tuple(cut.recipe for cut in group.sweeps),
        hoisted=group.hoist.bytes if group.hoist is not None else None,
        operators=group.stop - group.start,
        size=group.axis.extent,
        bytes=group.bytes,
        saved=max(planner.line.during[group.start : group.stop]) - group.bytes,
        seconds=round(group.seconds, 6),
        flops=round(group.flops),
    )


def followed(program: Program, graph: str, recipe: GraphRecipe, attention: Attention) -> Choice:
    """The choice that a recipe describes.

    Raises:
        UsageError: a group does not fit the graph; with the group, what is wrong, and what would do.
    """
    planner = planner_of(program, graph, attention, recipe.recompute_above)
    place = {node.name: index for index, node in enumerate(planner.line.nodes)}
    groups: list[Group] = []
    for each in recipe.groups:
        said = f"the slicing plan's group '{each.first}' to '{each.last}' of graph '{graph}'"
        for name in (each.first, each.last):
            if name not in place:
                raise UsageError(f"{said}: the graph has no operator '{name}'; `penstock slice` writes a plan for it")
        start, stop = place[each.first], place[each.last] + 1
        if stop <= start or (groups and start < groups[-1].stop):
            raise UsageError(f"{said}: groups must follow each other in the order of the graph")
        try:
            groups.append(planner.groups.given((start, stop), each.dim, each.cut, each.sweeps, each.hoisted, DEPTH))
        except WholeError as error:
            raise UsageError(f"{said}: {error}") from error
    return Choice(planner, planner.scheduled(groups), recipe.recompute_above)
