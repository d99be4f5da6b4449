"""Hand-made artifacts: the format of docs/launch_plan.md, written without the compiler.

Digests and seals are computed here from the document, not by the code under test.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Json = dict[str, Any]
ROW = "int32[32]"  # 128 bytes, so that every row starts where any OpenCL device lets a view start
ROW_BYTES = 128
STORED = {"int32": "I32", "float32": "F32", "uint8": "U8", "int64": "I64", "float16": "F16", "bool": "BOOL"}
_SOURCES = {
    "add": "__kernel void add(__global const uint* a, __global const uint* b, __global uint* out) {\n"
    "  const size_t i = get_global_id(0);\n  if (i < SIZE) out[i] = a[i] + b[i];\n}\n",
    "twice": "__kernel void twice(__global const uint* a, __global uint* out) {\n"
    "  const size_t i = get_global_id(0);\n  if (i < SIZE) out[i] = 2 * a[i];\n}\n",
}


def value(name: str, type_: str, space: str, index: int = 0, offset: int = 0) -> Json:
    """A piece of memory with a type."""
    return {"name": name, "type": type_, "at": [space, index, offset]}


def launch(kernel: int, *args: Any) -> Json:
    """A kernel on values."""
    return {"launch": kernel, "args": list(args)}


def copy(source: Any, target: Any) -> Json:
    """The bytes of one value into another."""
    return {"copy": [source, target]}


def loop(count: int, *ops: Json) -> Json:
    """Some ops, again and again."""
    return {"loop": count, "ops": list(ops)}


def call(graph: str, *args: int) -> Json:
    """A graph on top-level values."""
    return {"call": graph, "args": list(args)}


def graph(parameters: Sequence[str], values: Sequence[Json], ops: Sequence[Json]) -> Json:
    """The body that calls run."""
    return {"parameters": list(parameters), "values": list(values), "ops": list(ops)}


def write(
    folder: Path,
    kind: str = "llvm",
    *,
    arenas: Sequence[int],
    kernels: Sequence[tuple[str, ...]] = (),
    graphs: Mapping[str, Json],
    values: Sequence[Json],
    inputs: Sequence[int] = (),
    outputs: Sequence[int] = (),
    steps: Sequence[Sequence[Json]] = (),
    phases: Mapping[str, Sequence[Sequence[Json]]] | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
    names: Mapping[str, str] | None = None,
    alignment: int = 64,
    sanitize: str = "",
) -> Path:
    """Write an artifact.

    Args:
        folder: made if it is not there.
        kind: ``llvm`` or ``opencl``.
        kernels: an entry of kernels.c and the types of its arguments, of which it writes the last.
        steps: the calls of a single phase, ``main``; or else `phases`.
        weights: what the weights file holds, by stored name.
        names: the weights of the plan and where they are stored; by default each tensor under its own name.
        sanitize: a sanitizer for the library of CPU kernels, e.g. ``address``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = dict(weights or {})
    (folder / "weights.safetensors").write_bytes(safetensors(stored))
    library = None
    if kind == "llvm":
        (folder / "lib").mkdir(exist_ok=True)
        shutil.copyfile(compiled_kernels(sanitize), folder / "lib/model.so")
        library = {"file": "lib/model.so", "sha256": file_hash(folder / "lib/model.so")}
    tensors = [
        {"name": name, "type": type_of(stored[place]), "stored": place}
        for name, place in (names or {name: name for name in stored}).items()
    ]
    plan = {
        "format": "penstock-plan",
        "version": 1,
        "kind": kind,
        "alignment": alignment,
        "lower_bound": sum(arenas),
        "arenas": list(arenas),
        "weights": {
            "file": "weights.safetensors",
            "sha256": file_hash(folder / "weights.safetensors"),
            "tensors": tensors,
        },
        "library": library,
        "kernels": [_kernel(folder, kind, library, *kernel) for kernel in kernels],
        "graphs": dict(graphs),
        "values": list(values),
        "inputs": list(inputs),
        "outputs": list(outputs),
        "phases": [
            {"name": name, "steps": [list(step) for step in calls]}
            for name, calls in (phases or {"main": steps}).items()
        ],
    }
    (folder / "plan.json").write_bytes(signed(plan))
    return folder


def _kernel(folder: Path, kind: str, library: Json | None, entry: str, *arguments: str) -> Json:
    size = elements(arguments[-1])
    record: Json = {"name": f"{entry}_{size}", "file": None, "sha256": None, "entry": entry}
    if kind == "opencl":
        record["file"] = f"kernels/{entry}_{size}.cl"
        (folder / "kernels").mkdir(exist_ok=True)
        (folder / record["file"]).write_text(_SOURCES[entry].replace("SIZE", str(size)))
        record["sha256"] = file_hash(folder / record["file"])
    grid = [-(-size // 32) or 1, 1, 1]
    record |= {"grid": grid, "block": [32, 1, 1], "local_bytes": 0, "arguments": list(arguments)}
    record["writes"] = [len(arguments) - 1]
    return {**record, "seal": seal(record, library["sha256"] if library else record["sha256"])}


def seal(kernel: Mapping[str, Any], code: str) -> str:
    """What binds a kernel's record to the SHA-256 of its code."""
    triples = "|".join(",".join(map(str, kernel[key])) for key in ("grid", "block"))
    types, writes = ";".join(kernel["arguments"]), ",".join(map(str, kernel["writes"]))
    text = f"{kernel['name']}|{code}|{kernel['entry']}|{triples}|{kernel['local_bytes']}|{types}|{writes}"
    return hashlib.sha256(text.encode()).hexdigest()


def signed(plan: Mapping[str, Any]) -> bytes:
    """The text of a plan, with its digest."""
    content = {key: part for key, part in plan.items() if key != "digest"}
    return sign(json.dumps(content, indent=1)[: -len("\n}")].encode())


def sign(content: bytes) -> bytes:
    """A plan's text up to the comma before its digest, with the digest."""
    return content + b',\n "digest": "' + hashlib.sha256(content).hexdigest().encode() + b'"\n}\n'


def unsigned(text: bytes) -> bytes:
    """What `sign` was given."""
    return text[: text.rindex(b",", 0, text.rindex(b'"digest"'))]


def edit(folder: Path, change: Callable[[Json], Any]) -> Path:
    """Change a plan and sign it again; seals and file hashes stay."""
    plan = json.loads((folder / "plan.json").read_bytes())
    change(plan)
    (folder / "plan.json").write_bytes(signed(plan))
    return folder


def put(*path: str | int, to: Any) -> Callable[[Json], None]:
    """The change that sets one place of a plan."""

    def change(plan: Any) -> None:
        for key in path[:-1]:
            plan = plan[key]
        plan[path[-1]] = to

    return change


def edit_text(folder: Path, old: bytes, new: bytes) -> Path:
    """Replace a part of a plan's text, which must be there, and sign it again."""
    content = unsigned((folder / "plan.json").read_bytes())
    assert old in content
    (folder / "plan.json").write_bytes(sign(content.replace(old, new, 1)))
    return folder


def write_weights(folder: Path, content: bytes) -> Path:
    """Replace the weights file and state its new hash."""
    (folder / "weights.safetensors").write_bytes(content)
    return edit(folder, lambda plan: plan["weights"].update(sha256=file_hash(folder / "weights.safetensors")))


def safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A weights file, its data aligned to 64 bytes."""
    header, data = {}, b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": STORED[str(array.dtype)], "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return packed(text + b" " * (-(len(text) + 8) % 64), data)


def packed(header: bytes, data: bytes) -> bytes:
    """A weights file of this header and these data."""
    return struct.pack("<Q", len(header)) + header + data


def type_of(array: np.ndarray) -> str:
    """The type of an array, as plans write it."""
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def elements(type_: str) -> int:
    """How many numbers a tensor of this type has."""
    extents = type_[type_.index("[") + 1 : -1]
    return int(np.prod([int(extent) for extent in extents.split(",") if extent], dtype=np.int64))


def file_hash(path: Path) -> str:
    """A file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def compiled_kernels(sanitize: str = "") -> Path:
    """The library of the kernels in kernels.c."""
    source = Path(__file__).with_name("kernels.c")
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("clang")
    assert compiler is not None, "these tests need a C compiler (Debian: apt install gcc)"
    flags = [
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        *([f"-fsanitize={sanitize}"] if sanitize else []),
    ]
    key = hashlib.sha256(repr((flags, source.read_bytes())).encode()).hexdigest()[:16]
    built = BUILD / f"kernels-{key}.so"
    if not built.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        partial = built.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *flags, "-o", partial, source], check=True)
        partial.rename(built)
    return built


ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build" / "tests"
