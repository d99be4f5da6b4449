"""Axes: what one position along a dimension of a result needs of an operator's arguments.

`reach` answers for one operator: along this axis of its result, which range of which axis of each argument does a range
of positions need? `rules_*.py` hold one rule per operator; what has no rule needs everything.
"""

from penstock.passes.analysis.axes.axis import Axis, CoarserError, Reach, WholeError
from penstock.passes.analysis.axes.rules import inputs_of, reach

__all__ = ["Axis", "CoarserError", "Reach", "WholeError", "inputs_of", "reach"]
