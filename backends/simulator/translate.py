"""A kernel's source as C++ that the headers in ``device/`` give its meaning.

Metal and OpenCL C are close to C++: functions and types are found in the headers. What is rewritten here is what C++
has no word for: address spaces, the list of parameters, shared arrays, and OpenCL's vector literals. Lines stay where
they are, so that a report names the line of the kernel's own source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.backends.simulator.languages import LANGUAGES, Language, index_argument, size_of
from penstock.passes.core.errors import PenstockError

_ALIGNMENT = 16
_TOGETHER = re.compile(r"\b(threadgroup_barrier|simd_\w+|simdgroup_\w+|barrier|(intel_)?sub_group_\w+)\s*[(<]")
_CPP_KEYWORDS = (
    "alignas|alignof|and|asm|catch|class|compl|const_cast|constexpr|decltype|delete|dynamic_cast|explicit|export|friend|"
    "mutable|namespace|new|noexcept|not|nullptr|operator|or|private|protected|public|reinterpret_cast|static_assert|"
    "static_cast|template|this|throw|try|typeid|typename|using|virtual|xor"
)
"""Words that a kernel in C may use as names."""


class TranslationError(PenstockError):
    """A kernel holds something that the simulator does not know; a fault of the simulator."""


@dataclass(frozen=True)
class KernelSource:
    """A kernel of a launch plan.

    Attributes:
        name: for people.
        entry: the function in the source.
        language: ``metal`` or ``opencl``.
        local_bytes: what the plan says that a work-group shares.
        writes: which buffers it writes.
    """

    name: str
    entry: str
    language: str
    source: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    local_bytes: int
    buffers: int
    writes: tuple[int, ...]


@dataclass(frozen=True)
class Translation:
    """A kernel in C++.

    Attributes:
        symbol: the function that launches it, with the calling convention of the runner's CPU device.
        text: the function and everything it needs but the header.
        local_bytes: memory that a work-group shares, of all its arrays.
    """

    symbol: str
    text: str
    local_bytes: int


@dataclass(frozen=True)
class _Array:
    name: str
    offset: int
    bytes: int
    scalar: int


def translate(kernel: KernelSource, subgroup: int) -> Translation:
    """A kernel for a device with SIMD-groups of `subgroup` threads.

    Raises:
        TranslationError: it is not written as TVM writes kernels.
    """
    return _Translator(kernel, LANGUAGES[kernel.language]).translate(subgroup)


class _Translator:
    def __init__(self, kernel: KernelSource, language: Language) -> None:
        self._kernel = kernel
        self._language = language
        self._arrays: list[_Array] = []
        self._names: list[str] = []

    def translate(self, subgroup: int) -> Translation:
        kernel = self._kernel
        before, parameters, body, line = self._taken_apart(_without_comments(kernel.source))
        together = bool(_TOGETHER.search(body))
        body = self._body(body)
        arguments, values = self._parameters(parameters)
        if self._names and len(self._names) != kernel.buffers:
            raise self._unknown(f"{len(self._names)} buffers where the launch plan has {kernel.buffers}")
        space = f"kernel_{kernel.entry}"
        symbol = f"simulate_{kernel.entry}"
        call = ", ".join(["penstock_thread", *values])
        used = self._arrays[-1].offset + self._arrays[-1].bytes if self._arrays else 0
        writes = ", ".join("true" if index in kernel.writes else "false" for index in range(kernel.buffers))
        fields = (
            json.dumps(kernel.name),
            "run",
            _braced(kernel.grid),
            _braced(kernel.block),
            "true" if together or self._arrays else "false",
            str(subgroup),
            str(used),
            str(kernel.buffers),
            "writes",
            "names",
        )
        text = (
            f"namespace penstock::{space} {{\n"
            f"constexpr LocalArray penstock_locals[] = {{{', '.join(map(_local, self._arrays)) or '{}'}}};\n"
            f"{self._before(before)}\n"
            f'#line {line} "{kernel.name}"\n'
            f"static void kernel({arguments}) {{{body}\n"
            f"static void run(const Thread& penstock_thread) {{ kernel({call}); }}\n"
            f"constexpr bool writes[] = {{{writes}}};\n"
            f"constexpr const char* names[] = {{{', '.join(map(json.dumps, self._names))}}};\n"
            f"constexpr Kernel description = {{{', '.join(fields)}}};\n"
            f"}}\n"
            f'extern "C" __attribute__((visibility("default"))) int {symbol}'
            f"(void*, const penstock::Argument* arguments, int count, void*) {{\n"
            f"  return penstock::launch(penstock::{space}::description, arguments, count);\n}}\n"
        )
        return Translation(symbol, text, used)

    def _taken_apart(self, source: str) -> tuple[str, str, str, int]:
        """What stands before the kernel, its parameters, what follows its opening brace, and the brace's line."""
        attributes = r"(?:\s*__attribute__\s*\(\(.*?\)\)\)?)*"
        start = rf"\b{self._language.kernel}{attributes}\s+void\s+{re.escape(self._kernel.entry)}\s*\("
        for match in re.finditer(start, source):
            end = _closing(source, match.end())
            if re.match(r"\s*;", source[end:]):
                continue  # a prototype
            brace = source.index("{", end)
            line = source.count("\n", 0, brace) + 1
            return source[: match.start()], source[match.end() : end - 1], source[brace + 1 :], line
        raise self._unknown(f"no kernel function {self._kernel.entry}")

    def _before(self, text: str) -> str:
        """Prototypes and the standard header have no place in a namespace; anything else is kept."""
        text = re.sub(r"#include\s*<metal_stdlib>|using namespace metal;", "", text)
        return re.sub(rf"{self._language.kernel}\s+void[^;{{]*;", "", text).strip()

    def _parameters(self, text: str) -> tuple[str, list[str]]:
        """The parameters in C++, and for each the value it is called with."""
        declared, values = ["const Thread& penstock_thread"], []
        buffers, shared = self._language.space, self._language.shared
        for parameter in _split(text):
            attribute = next(iter(re.findall(r"\[\[\s*(\w+)", parameter)), "")
            plain = re.sub(r"\[\[.*?\]\]|\b(const|volatile|restrict|__restrict)\b", "", parameter).strip()
            if match := re.fullmatch(rf"(?:{buffers})\s+(\w+)\s*\*\s*(\w+)", plain):
                declared.append(f"Pointer<{match[1]}> {match[2]}")
                values.append(f'buffer<{match[1]}>(penstock_thread, {len(self._names)}, "{match[2]}")')
                self._names.append(match[2])
            elif match := re.fullmatch(rf"{shared}\s+(\w+)\s*\*\s*(\w+)", plain):
                declared.append(f"Local<{match[1]}> {match[2]}")
                values.append(f"Local<{match[1]}>(penstock_thread, {self._dynamic(match[1], match[2])})")
            elif (match := re.fullmatch(r"(\w+)\s+(\w+)", plain)) and index_argument(match[1], attribute):
                declared.append(plain)
                values.append(str(index_argument(match[1], attribute)))
            else:
                raise self._unknown(f"the parameter '{' '.join(parameter.split())}'")
        return ", ".join(declared), values

    def _body(self, text: str) -> str:
        language = self._language
        shared = rf"^(\s*){language.shared}\s+(?:volatile\s+)?(\w+)\s+(\w+)\[(\d+)\];"
        text = re.sub(shared, self._shared_array, text, flags=re.MULTILINE)
        private = rf"^(\s*)(?:{language.private}\s+)?(?!return\b)([A-Za-z_]\w*)\s+(\w+)\[(\d+)\];"
        text = re.sub(private, r"\1Private<\2, \4> \3;", text, flags=re.MULTILINE)
        text = re.sub(rf"(?:volatile\s+)?(?:const\s+)?{language.shared}\s+(?:const\s+)?(\w+)\s*\*", r"Local<\1>", text)
        buffers = rf"(?:volatile\s+)?(?:const\s+)?(?:{language.space})\s+(?:const\s+)?(\w+)\s*\*"
        text = re.sub(buffers, r"Pointer<\1>", text)
        text = re.sub(rf"\b{language.private}\s+(\w+)\s*\*", r"Pointer<\1>", text)
        text = re.sub(rf"\b{language.private}\s+(?=\w)", "", text)
        if language.name == "opencl":
            text = re.sub(r"\(([a-z]+(?:2|3|4|8|16))\)\s*\(", r"\1(", text)  # (float4)(a, b, c, d)
            text = re.sub(rf"\b({_CPP_KEYWORDS})\b", r"\1_", text)
        return text

    def _shared_array(self, match: re.Match[str]) -> str:
        indent, kind, name, count = match.groups()
        index = self._add(name, kind, int(count) * self._size(kind)[0])
        return f"{indent}Local<{kind}> {name}(penstock_thread, penstock_locals[{index}]);"

    def _dynamic(self, kind: str, name: str) -> str:
        """An array whose size comes with the launch: what the plan has beyond the others."""
        used = self._arrays[-1].offset + self._arrays[-1].bytes if self._arrays else 0
        return f"penstock_locals[{self._add(name, kind, max(0, self._kernel.local_bytes - used))}]"

    def _add(self, name: str, kind: str, size: int) -> int:
        end = self._arrays[-1].offset + self._arrays[-1].bytes if self._arrays else 0
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        self._arrays.append(_Array(name, offset, size, self._size(kind)[1]))
        return len(self._arrays) - 1

    def _size(self, kind: str) -> tuple[int, int]:
        try:
            return size_of(kind)
        except KeyError:
            raise self._unknown(f"an array of {kind}") from None

    def _unknown(self, what: str) -> TranslationError:
        return TranslationError(f"the simulator cannot read kernel '{self._kernel.name}': {what}; a fault of penstock")


def _local(array: _Array) -> str:
    return f'{{"{array.name}", {array.offset}, {array.bytes}, {array.scalar}}}'


def _braced(numbers: Sequence[int]) -> str:
    return f"{{{', '.join(map(str, numbers))}}}"


def _without_comments(source: str) -> str:
    """The source with its comments blanked, line by line."""
    source = re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), source, flags=re.DOTALL)
    return re.sub(r"//[^\n]*", "", source)


def _closing(text: str, start: int) -> int:
    """The place after the parenthesis that closes the one before `start`."""
    depth = 1
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    return len(text)


def _split(text: str) -> list[str]:
    """A list of parameters at its outer commas."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, "[": 1, "<": 1, ")": -1, "]": -1, ">": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]
