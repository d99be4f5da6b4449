"""Feature slicing and operator grouping: runs of operators, part by part along an axis, to a byte budget.

`tiling` finds what of a run can be made in parts, `bodies` makes the graph of one part, `planner` chooses runs, axes
and part counts for a budget, `realize` writes them into the plan, `feature_slicing` is the pass.
"""
