"""Every operator case of this folder on phone GPUs: simulated, in both precisions of Metal and in OpenCL's half.

OpenCL in float32 runs on PoCL (tests/e2e/test_opencl.py), and on no phone's CPU would it be another program.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from tests.backends.tvm.op_cases import Built, Case, halved

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("test_ops_*.py") if path != Path(__file__))
KINDS = {
    "metal-float32": ("apple-a18-pro", 1e-4),
    "metal-float16": ("apple-a18-pro", 2e-2),
    "opencl-float16": ("adreno-830", 2e-2),
}
"""The device, and the largest error relative to the largest magnitude of each result."""

_COMMON = (
    r"acosh?|asinh?|atan[h2]?|ceil|cosh?|exp2?|fabs|abs|floor|fmod|log2?|max|min|pow|rint|select|sinh?|sqrt|tanh?|trunc"
)
_LANGUAGE = r"\w+_kernel(_\d+)?|if|for|while|return|sizeof|(bool|u?char|u?short|u?int|u?long|half|float)\d*"
_CALLS = {
    "opencl": rf"{_COMMON}|{_LANGUAGE}|barrier|get_group_id|get_local_id|convert_\w+|v(load|store)(_half)?\d+",
    "metal": rf"{_COMMON}|{_LANGUAGE}|threadgroup_barrier|simdgroup_barrier|mem_flags|simd_shuffle(_down)?|as_type"
    r"|simdgroup_(load|store|multiply_accumulate)",
}
"""What a kernel may call: functions of OpenCL C 1.2 and of Metal. TVM's C spellings (`tanf`) are in neither."""


def cases(module: str, kind: str) -> dict[str, Case]:
    found: dict[str, Case] = importlib.import_module(f"tests.backends.tvm.{module}").CASES
    whole = {name: item for name, item in found.items() if not name.startswith("half")}
    if kind.endswith("float32"):
        return whole
    return {name: halved(item) for name, item in whole.items() if not loses_its_order(item)}


def loses_its_order(item: Case) -> bool:
    """Whether the results are places of values some of which are equal in half precision."""
    if not any(result.dtype == torch.int64 for result in item.expected()):
        return False
    values = [tensor for tensor in item.inputs() if tensor.is_floating_point()]
    return any(tensor.half().unique().numel() < tensor.unique().numel() for tensor in values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", MODULES)
def test_every_case_matches_torch(module: str, kind: str) -> None:
    device, tolerance = KINDS[kind]
    chosen = cases(module, kind)
    assert chosen
    built = Built(chosen, device)
    unknown = unknown_functions(built.source(), kind)
    assert not unknown, f"{kind} has no {unknown}"
    for name in chosen:
        built.check(name, tolerance, least_scale=0.0)


def unknown_functions(source: str, kind: str) -> list[str]:
    code = re.sub(r"//.*|#.*|\[\[.*?\]\]", "", source)
    known = _CALLS[kind.partition("-")[0]]
    return sorted({name for name in re.findall(r"\b([a-z]\w*)\s*\(", code) if not re.fullmatch(known, name)})
