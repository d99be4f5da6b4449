"""Functions of OpenCL C that PoCL can inline.

PoCL keeps ``vload8``, ``max`` and their like in a library that is compiled for a whole family of processors, and does
not inline what was compiled for another processor than the one at hand. Each becomes a call, around which all sums of a
kernel go to the stack, and no loop over threads that holds one becomes vectors. The definitions here are for PoCL only,
which a macro of its own tells: on a GPU the language's own are instructions.
"""

from __future__ import annotations

import re

_BYTES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "long": 8, "ulong": 8}
_SPACES = ("__global", "__local")
_INLINE = "__attribute__((overloadable, always_inline, unused)) static"


def inlined(source: str) -> str:
    """A kernel in OpenCL C with functions of its own, as far as it uses any."""
    vectors = re.findall(r"\b(?:float|int|long|vload|vstore)(2|4|8|16)\b", source)
    widths = sorted({1, *map(int, vectors)})
    lines = [line for name, sign in (("max", "<"), ("min", ">")) for line in _extremum(source, name, sign, widths)]
    if re.search(r"\bselect\b", source):
        lines.append("#define select(otherwise, then, condition) ((condition) ? (then) : (otherwise))")
    kinds = [kind for kind in _BYTES if re.search(rf"\b{kind}\d*\b", source)]
    for lanes in sorted({int(count) for count in re.findall(r"\bv(?:load|store)(2|4|8|16)\b", source)}):
        lines += _accesses(lanes, kinds)
    return "\n".join(["#ifdef POCL_DEVICE_ADDRESS_BITS", *lines, "#endif", source]) if lines else source


def _extremum(source: str, name: str, sign: str, widths: list[int]) -> list[str]:
    if not re.search(rf"\b{name}\b", source):
        return []
    kinds = [f"{kind}{lanes}" if lanes > 1 else kind for kind in ("int", "long", "float") for lanes in widths]
    made = [f"{_INLINE} {kind} inline_{name}({kind} a, {kind} b) {{ return a {sign} b ? b : a; }}" for kind in kinds]
    return [*made, f"#undef {name}", f"#define {name} inline_{name}"]


def _accesses(lanes: int, kinds: list[str]) -> list[str]:
    """Loads and stores through a vector type that needs no more alignment than its elements."""
    lines = [f"#undef vload{lanes}", f"#undef vstore{lanes}"]
    for kind in kinds:
        vector, anywhere = f"{kind}{lanes}", f"unaligned_{kind}{lanes}"
        lines.append(f"typedef {vector} {anywhere} __attribute__((aligned({_BYTES[kind]})));")
        for space in _SPACES:
            lines += [
                f"{_INLINE} {vector} load{lanes}(const {space} {kind}* p) {{ return *(const {space} {anywhere}*)p; }}",
                f"{_INLINE} void store{lanes}({vector} v, {space} {kind}* p) {{ *({space} {anywhere}*)p = v; }}",
            ]
        # PoCL takes private arrays apart wrongly where they are accessed through another type.
        items = ", ".join(f"p[{lane}]" for lane in range(lanes))
        stores = " ".join(f"p[{lane}] = v.s{lane:x};" for lane in range(lanes))
        lines += [
            f"{_INLINE} {vector} load{lanes}(const __private {kind}* p) {{ return ({vector})({items}); }}",
            f"{_INLINE} void store{lanes}({vector} v, __private {kind}* p) {{ {stores} }}",
        ]
    at = f"(p) + {lanes} * (offset)"
    return [
        *lines,
        f"#define vload{lanes}(offset, p) load{lanes}({at})",
        f"#define vstore{lanes}(v, offset, p) store{lanes}(v, {at})",
    ]
