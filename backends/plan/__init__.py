"""Launch plans: what a device has to do, in order, and where every byte lies.

`launches` is the list that a code generator leaves, over buffers without an address. `reuse` lets values share memory,
`layout` finds out how long each buffer is needed, `placement` gives it an offset, and `encoding` writes the result as
the artifact's ``plan.json``, which docs/launch_plan.md describes.
"""
