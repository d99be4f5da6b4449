"""The lowering table: one small function per ATen operator, which emits Relax.

Each module is a room of the table; importing this package fills it. Other packages add lowerings for their own
operators through the entry-point group ``penstock.lowerings``, which names a module (importing it registers them).
"""
