"""Metal and OpenCL C as far as they are not C++: what a kernel's declarations look like, and what they become."""

from __future__ import annotations

import re
from dataclasses import dataclass

_INDICES = {
    "threadgroup_position_in_grid": "group",
    "thread_position_in_threadgroup": "position",
    "threads_per_threadgroup": "block",
    "threadgroups_per_grid": "grid",
}
_SCALARS = {
    **dict.fromkeys(("bool", "char", "uchar"), 1),
    **dict.fromkeys(("half", "short", "ushort"), 2),
    **dict.fromkeys(("float", "int", "uint"), 4),
    **dict.fromkeys(("double", "long", "ulong"), 8),
}


@dataclass(frozen=True)
class Language:
    """How a language writes what C++ has no word for.

    Attributes:
        name: ``metal`` or ``opencl``; the header of the same name holds its functions.
        kernel: what stands before a kernel.
        space: address spaces of buffers, as a regular expression.
        shared: that of the memory of a group.
        private: that of a thread.
    """

    name: str
    kernel: str
    space: str
    shared: str
    private: str


METAL = Language("metal", "kernel", "device|constant", "threadgroup", "thread")
OPENCL = Language("opencl", "__kernel", "__global|__constant", "__local", "__private")
LANGUAGES = {language.name: language for language in (METAL, OPENCL)}


def size_of(kind: str) -> tuple[int, int]:
    """Bytes of a type and of one of its scalars, e.g. ``half4``: 8 and 2. A vector of three takes the room of four.

    Raises:
        KeyError: there is no such type.
    """
    match = re.fullmatch(r"([a-z]+?)(2|3|4|8|16)?", kind)
    scalar = _SCALARS[match[1] if match else kind]
    lanes = int((match and match[2]) or 1)
    return scalar * (4 if lanes == 3 else lanes), scalar


def index_argument(kind: str, attribute: str) -> str | None:
    """The value of a Metal parameter like ``uint2 blockIdx [[threadgroup_position_in_grid]]``."""
    thread = "penstock_thread"
    if attribute in _INDICES:
        field = f"{thread}.{_INDICES[attribute]}"
        lanes = int(kind[-1]) if kind[-1].isdigit() else 1
        items = ", ".join(f"{field}[{axis}]" for axis in range(lanes))
        return f"{kind}({items})"
    return {
        "thread_index_in_threadgroup": f"{thread}.index",
        "thread_index_in_simdgroup": f"{thread}.index % {thread}.subgroup",
        "simdgroup_index_in_threadgroup": f"{thread}.index / {thread}.subgroup",
    }.get(attribute)
