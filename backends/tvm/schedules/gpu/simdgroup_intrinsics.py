"""Apple's 8 × 8 matrix operations as intrinsics that a schedule can put in the place of loops.

Operands are of either precision and sums always of float32: ``simdgroup_multiply_accumulate`` adds to a
`simdgroup_float8x8` whatever its operands are. TVM's own intrinsics of this kind sum in half precision, and importing
them makes it read those of all other processors too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

SIZE = 8
"""Rows and columns of a matrix."""
FILL = "penstock.simdgroup_fill"
_MATRIX = "metal.simdgroup"


def load(dtype: str, turned: bool = False) -> str:
    """The name of the load of a matrix from the memory of a group; `turned` if rows lie there as columns."""
    return f"penstock.simdgroup_load.{dtype}{'.turned' if turned else ''}"


def store(turned: bool = False) -> str:
    """The name of the store of a matrix of float32; `turned` if its rows become columns."""
    return f"penstock.simdgroup_store{'.turned' if turned else ''}"


def multiply(dtype: str) -> str:
    """The name of the product of two matrices that is added to one of float32."""
    return f"penstock.simdgroup_multiply.{dtype}"


@cache
def register_simdgroup() -> None:
    """Tell TVM of them; once per process."""
    TensorIntrin.register(FILL, *_fill())
    for turned in (False, True):
        TensorIntrin.register(store(turned), *_copy("float32", _MATRIX, "shared", turned))
    for dtype in ("float16", "float32"):
        for turned in (False, True):
            TensorIntrin.register(load(dtype, turned), *_copy(dtype, "shared", _MATRIX, turned))
        TensorIntrin.register(multiply(dtype), *_multiply(dtype))


def _place(matrix: Any, stride: Any) -> Any:
    """Which of the matrices that a SIMD-group holds one is: they are numbered row by row."""
    return matrix.elem_offset // stride // SIZE * (stride // SIZE) + matrix.elem_offset % stride // SIZE


def _fill() -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def loops(c: T.handle) -> None:
        made = T.match_buffer(c, (SIZE, SIZE), "float32", scope=_MATRIX, offset_factor=1)
        with T.sblock("root"):
            T.reads()
            T.writes(made[0:SIZE, 0:SIZE])
            for i, j in T.grid(SIZE, SIZE):
                with T.sblock("fill"):
                    row, column = T.axis.remap("SS", [i, j])
                    made[row, column] = T.float32(0)

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def call(c: T.handle) -> None:
        c0, c1 = T.int32(), T.int32()
        made = T.match_buffer(c, (SIZE, SIZE), "float32", scope=_MATRIX, strides=[c1, c0], offset_factor=1)
        with T.sblock("root"):
            T.reads()
            T.writes(made[0:SIZE, 0:SIZE])
            T.metal.make_filled_simdgroup_matrix(
                made.data, index=_place(made, c1), value=T.float32(0), col=SIZE, row=SIZE
            )

    return loops, call


def _copy(dtype: str, source: str, target: str, turned: bool) -> tuple[Any, Any]:
    """A load or a store: a copy between the memory of a group and a matrix."""
    align = SIZE * SIZE

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def loops(a: T.handle, c: T.handle) -> None:
        left = T.match_buffer(a, (SIZE, SIZE), dtype, align=align, scope=source, offset_factor=1)
        made = T.match_buffer(c, (SIZE, SIZE), dtype, align=align, scope=target, offset_factor=1)
        with T.sblock("root"):
            T.reads(left[0:SIZE, 0:SIZE])
            T.writes(made[0:SIZE, 0:SIZE])
            for i, j in T.grid(SIZE, SIZE):
                with T.sblock("copy"):
                    row, column = T.axis.remap("SS", [i, j])
                    if turned:
                        made[column, row] = left[row, column]
                    else:
                        made[row, column] = left[row, column]

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def loaded(a: T.handle, c: T.handle) -> None:
        a0, a1, c0, c1 = T.int32(), T.int32(), T.int32(), T.int32()
        left = T.match_buffer(a, (SIZE, SIZE), dtype, align=align, scope=source, strides=[a1, a0], offset_factor=1)
        made = T.match_buffer(c, (SIZE, SIZE), dtype, align=align, scope=target, strides=[c1, c0], offset_factor=1)
        with T.sblock("root"):
            T.reads(left[0:SIZE, 0:SIZE])
            T.writes(made[0:SIZE, 0:SIZE])
            T.metal.simdgroup_load(
                made.data,
                index=_place(made, c1),
                ptr=left.access_ptr("r", ptr_type=dtype),
                stride=a1,
                col=SIZE,
                row=SIZE,
                transpose_matrix=turned,
            )

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def stored(a: T.handle, c: T.handle) -> None:
        a0, a1, c0, c1 = T.int32(), T.int32(), T.int32(), T.int32()
        left = T.match_buffer(a, (SIZE, SIZE), dtype, align=align, scope=source, strides=[a1, a0], offset_factor=1)
        made = T.match_buffer(c, (SIZE, SIZE), dtype, align=align, scope=target, strides=[c1, c0], offset_factor=1)
        with T.sblock("root"):
            T.reads(left[0:SIZE, 0:SIZE])
            T.writes(made[0:SIZE, 0:SIZE])
            T.metal.simdgroup_store(
                left.data,
                index=_place(left, a1),
                ptr=made.access_ptr("w", ptr_type=dtype),
                stride=c1,
                col=SIZE,
                row=SIZE,
                transpose_matrix=turned,
            )

    return loops, loaded if target == _MATRIX else stored


def _multiply(dtype: str) -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def of_halves(a: T.handle, b: T.handle, c: T.handle) -> None:
        left = T.match_buffer(a, (SIZE, SIZE), dtype, scope=_MATRIX, offset_factor=1)
        right = T.match_buffer(b, (SIZE, SIZE), dtype, scope=_MATRIX, offset_factor=1)
        made = T.match_buffer(c, (SIZE, SIZE), "float32", scope=_MATRIX, offset_factor=1)
        with T.sblock("root"):
            T.reads(made[0:SIZE, 0:SIZE], left[0:SIZE, 0:SIZE], right[0:SIZE, 0:SIZE])
            T.writes(made[0:SIZE, 0:SIZE])
            for i, j, k in T.grid(SIZE, SIZE, SIZE):
                with T.sblock("sum"):
                    row, column, step = T.axis.remap("SSR", [i, j, k])
                    made[row, column] += T.cast(left[row, step], "float32") * T.cast(right[step, column], "float32")

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def of_floats(a: T.handle, b: T.handle, c: T.handle) -> None:
        left = T.match_buffer(a, (SIZE, SIZE), dtype, scope=_MATRIX, offset_factor=1)
        right = T.match_buffer(b, (SIZE, SIZE), dtype, scope=_MATRIX, offset_factor=1)
        made = T.match_buffer(c, (SIZE, SIZE), "float32", scope=_MATRIX, offset_factor=1)
        with T.sblock("root"):
            T.reads(made[0:SIZE, 0:SIZE], left[0:SIZE, 0:SIZE], right[0:SIZE, 0:SIZE])
            T.writes(made[0:SIZE, 0:SIZE])
            for i, j, k in T.grid(SIZE, SIZE, SIZE):
                with T.sblock("sum"):
                    row, column, step = T.axis.remap("SSR", [i, j, k])
                    made[row, column] += left[row, step] * right[step, column]

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def call(a: T.handle, b: T.handle, c: T.handle) -> None:
        a0, a1, b0, b1, c0, c1 = T.int32(), T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        left = T.match_buffer(a, (SIZE, SIZE), dtype, scope=_MATRIX, strides=[a1, a0], offset_factor=1)
        right = T.match_buffer(b, (SIZE, SIZE), dtype, scope=_MATRIX, strides=[b1, b0], offset_factor=1)
        made = T.match_buffer(c, (SIZE, SIZE), "float32", scope=_MATRIX, strides=[c1, c0], offset_factor=1)
        with T.sblock("root"):
            T.reads(made[0:SIZE, 0:SIZE], left[0:SIZE, 0:SIZE], right[0:SIZE, 0:SIZE])
            T.writes(made[0:SIZE, 0:SIZE])
            T.metal.simdgroup_multiply_accumulate(
                made.data,
                _place(made, c1),
                left.data,
                _place(left, a1),
                right.data,
                _place(right, b1),
                made.data,
                _place(made, c1),
            )

    return of_floats if dtype == "float32" else of_halves, call
