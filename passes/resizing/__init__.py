"""Resizing: a captured Program for other frame counts, resolutions or batch sizes.

`atoms` holds the numbers that sizes are products of and says which are the same; `relations` reads off every operator
which are; `sizes` solves for the new ones; `literals` and `numbers` say which numbers in arguments are sizes; `resize`
puts them together.
"""

from penstock.passes.resizing.resize import parse_sizes, resize

__all__ = ["parse_sizes", "resize"]
