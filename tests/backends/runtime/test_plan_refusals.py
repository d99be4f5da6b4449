"""Plans that contradict themselves: each is refused, and the message names the place and the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.runtime.capi import Model, refusal
from tests.backends.runtime.plans import ROW, Json, edit, launch, loop, put, value

pytestmark = pytest.mark.native
ROWS = "int32[4,32]"
AGAIN = "; copy the artifact again or compile the model again"
LARGEST = 2**63 - 1


def test_the_artifact_itself_is_accepted(artifact: Path) -> None:
    x = np.ones((4, 32), np.int32)
    y, z = Model(artifact).run(x)
    expected = x + np.arange(128, dtype=np.int32).reshape(4, 32)
    expected[0] *= 2
    assert np.array_equal(y, expected)
    assert np.array_equal(z, np.arange(96, 128))


def drop(*path: str | int) -> Callable[[Json], None]:
    """The edit that removes one place of the plan."""

    def change(plan: Any) -> None:
        for key in path[:-1]:
            plan = plan[key]
        del plan[path[-1]]

    return change


MAIN = ("graphs", "main")
OPS = (*MAIN, "ops")
VALUES = (*MAIN, "values")
INCONSISTENT: dict[str, tuple[Callable[[Json], None], str]] = {
    "format": (put("format", to="plan"), "plan.json: not a launch plan"),
    "version": (put("version", to=2), "plan.json: format version 2, this runner reads version 1"),
    "kind": (put("kind", to="vulkan"), "plan.json: unknown kind 'vulkan'"),
    "unknown key": (put("priority", to=1), "unknown key 'priority'"),
    "unknown key of a value": (put(*VALUES, 1, "dtype", to=""), "graphs.main.values[1]: unknown key 'dtype'"),
    "unknown key of an op": (put(*OPS, 2, "when", to=0), "graphs.main.ops[2]: unknown key 'when'"),
    "missing key": (drop("arenas"), "the key 'arenas' is missing"),
    "missing key of a kernel": (drop("kernels", 1, "grid"), "kernels[1]: the key 'grid' is missing"),
    "kind of value": (put("arenas", to="large"), "arenas: expected a list, found a string"),
    "boolean number": (put("alignment", to=True), "alignment: expected an integer, found a boolean"),
    "alignment": (put("alignment", to=48), "alignment: 48 is no power of two"),
    "small alignment": (put("alignment", to=8), "alignment: 8 is not between 16 and"),
    "negative arena": (put("arenas", 0, to=-1), "arenas[0]: -1 is not between 0 and"),
    "arenas overflow": (put("arenas", to=[2**62, 2**62]), "arenas[0]: 4611686018427387904 is not between 0 and"),
    "value out of bounds": (put(*VALUES, 3, "at", 2, to=192), "graph 'main': 'z' reaches byte 192 + 0 + 128 of 256"),
    "weight out of bounds": (put(*VALUES, 4, "at", 2, to=388), "'last' reaches byte 388 + 0 + 128 of 512"),
    "parameter out of bounds": (put(*VALUES, 0, "at", 2, to=4), "'x' reaches byte 4 + 0 + 512 of 512"),
    "top value out of bounds": (put("values", 1, "at", 2, to=576), "plan.json: 'y' reaches byte 576 + 0 + 512 of 1024"),
    "offset overflows": (put(*VALUES, 3, "at", 2, to=LARGEST), f"'z' reaches byte {LARGEST} + 0 + 128 of 256"),
    "negative offset": (put("values", 0, "at", 2, to=-64), f"values[0].at[2]: -64 is not between 0 and {LARGEST}"),
    "misaligned value": (put(*VALUES, 3, "at", 2, to=126), "'z' is not aligned for int32"),
    "misaligned top value": (
        put("values", 2, "at", 2, to=96),
        "plan.json: 'z' is at byte 96, which is not aligned to 64",
    ),
    "misaligned parameter": (put(*VALUES, 3, "at", to=["parameter", 1, 6]), "'z' is not aligned for int32"),
    "misaligned stride": (
        put(*OPS, 0, "ops", 0, "args", 0, to=[0, 126]),
        "op 0: op 0: a stride of 'x' is not a multiple of 4",
    ),
    "stride out of bounds": (
        put(*OPS, 0, "ops", 0, "args", 0, to=[0, 132]),
        "graph 'main': op 0: op 0: 'x' reaches byte 0 + 396 + 128 of 512",
    ),
    "one iteration too many": (put(*OPS, 0, "loop", to=5), "op 0: op 0: 'x' reaches byte 0 + 512 + 128 of 512"),
    "stride overflows": (put(*OPS, 0, "ops", 0, "args", 2, to=[2, LARGEST // 2]), "op 0: op 0: a stride is too large"),
    "negative stride": (put(*OPS, 0, "ops", 0, "args", 0, to=[0, -128]), "args[0][1]: -128 is not between 0 and"),
    "stride outside a loop": (
        put(*OPS, 1, "args", 0, to=[2, 128]),
        "ops[1].args[0]: more strides than loops around it",
    ),
    "argument without a value": (put(*OPS, 1, "args", 0, to=[]), "ops[1].args[0]: expected a value and strides"),
    "no iterations": (put(*OPS, 0, "loop", to=0), "graphs.main.ops[0].loop: 0 is not between 1 and"),
    "endless loop": (put(*OPS, 0, "loop", to=2**40), "graphs.main.ops[0].loop: 1099511627776 is not between 1 and"),
    "too many launches": (
        put(*OPS, 1, to=loop(2**12, loop(2**13, launch(1, 2, 2)))),
        "graph 'main': op 1: a run would make more than 16777216 launches",
    ),
    "overlap": (
        put(*OPS, 1, "args", to=[5, 6]),
        "graph 'main': op 1: 'high' and 'low' overlap in part, and one of them is written",
    ),
    "overlapping copy": (put(*OPS, 2, "copy", to=[6, 5]), "op 2: 'high' and 'low' overlap in part"),
    "overlap in one iteration": (
        put(*OPS, 0, "ops", 0, "args", to=[[2, 128], [1, 128], 2]),
        "op 0: op 0: 'y' and 'y' overlap in part",
    ),
    "write to a weight": (put(*OPS, 1, "args", 1, to=1), "graph 'main': op 1: the weight 'w' would be written"),
    "copy to a weight": (put(*OPS, 2, "copy", to=[3, 4]), "graph 'main': op 2: the weight 'last' would be written"),
    "call writes a weight": (
        put("phases", 0, "steps", 0, 0, "args", 1, to=3),
        "call 0: the weight 'w' would be written",
    ),
    "input is a weight": (put("inputs", 0, to=3), "the weight 'w' would be written as an input"),
    "copy of another size": (put(*OPS, 2, "copy", 0, to=0), "graph 'main': op 2: a copy of 512 bytes into 128"),
    "copy with one end": (put(*OPS, 2, "copy", to=[0]), "graphs.main.ops[2]: a copy has two ends"),
    "number of arguments": (put(*OPS, 1, "args", to=[2]), "op 1: kernel 'twice_32' takes 2 arguments, not 1"),
    "argument out of bounds": (put(*OPS, 1, "args", 0, to=7), "op 1: 'tail' reaches byte 240 + 0 + 128 of 256"),
    "unknown kernel": (put(*OPS, 1, "launch", to=2), "graphs.main.ops[1].launch: there is no kernel 2, only 2"),
    "negative kernel": (put(*OPS, 1, "launch", to=-1), "graphs.main.ops[1].launch: there is no kernel -1, only 2"),
    "unknown value": (put(*OPS, 1, "args", 0, to=99), "graphs.main.ops[1].args[0]: there is no value 99, only 8"),
    "unknown arena": (put("values", 0, "at", 1, to=2), "values[0].at[1]: there is no arena 2, only 2"),
    "unknown space": (put(*VALUES, 0, "at", 0, to="stack"), "values[0].at: there is no space 'stack' here"),
    "parameter at the top": (put("values", 0, "at", 0, to="parameter"), "there is no space 'parameter' here"),
    "unknown graph": (put("phases", 0, "steps", 0, 0, "call", to="start"), "steps[0][0]: there is no graph 'start'"),
    "number of parameters": (put("phases", 0, "steps", 0, 0, "args", to=[0]), "takes 2 parameters, not 1"),
    "type of a parameter": (put("values", 0, "type", to="int32[128]"), "call 0: parameter 0 has another type than 'x'"),
    "unknown input": (put("inputs", 0, to=4), "inputs[0]: there is no value 4, only 4"),
    "unknown output": (put("outputs", 1, to=-1), "outputs[1]: there is no value -1, only 4"),
    "unknown dtype": (put("values", 0, "type", to="int4[8]"), "values[0].type: 'int4[8]' is no type: unknown dtype"),
    "no type": (put("values", 0, "type", to=""), "values[0].type: '' is no type: expected dtype[extents]"),
    "negative extent": (put("values", 0, "type", to="int32[-4]"), "'int32[-4]' is no type: an extent is no number"),
    "shape overflows": (put("values", 0, "type", to="int32[3037000500,3037000500]"), "is no type: it is too large"),
    "extent overflows": (put("values", 0, "type", to=f"int8[{2**64}]"), "is no type: an extent is no number"),
    "too many dimensions": (put("values", 0, "type", to=f"int8[{'1,' * 16}1]"), "is no type: too many dimensions"),
    "seal": (put("kernels", 0, "grid", 0, to=2), "kernels[0]: its seal does not match what is said of it"),
    "seal of the types": (put("kernels", 0, "arguments", 2, to="int32[64]"), "kernels[0]: its seal does not match"),
    "seal of the writes": (put("kernels", 1, "writes", to=[]), "kernels[1]: its seal does not match"),
    "seal of the entry": (put("kernels", 1, "entry", to="add"), "kernels[1]: its seal does not match"),
    "seal that is none": (put("kernels", 1, "seal", to="x"), "kernels[1].seal: not a SHA-256"),
    "no threads": (put("kernels", 0, "block", to=[0, 1, 1]), "kernels[0].block[0]: 0 is not between 1 and"),
    "two extents": (put("kernels", 0, "block", to=[1, 1]), "kernels[0].block: expected three numbers"),
    "lower bound": (put("lower_bound", to=-1), "lower_bound: -1 is not between 0 and"),
    "tensor that is not stored": (put("weights", "tensors", 0, "stored", to="v"), "lacks the tensor 'v'"),
    "stored with another type": (
        put("weights", "tensors", 0, "type", to="float32[4,32]"),
        "'w' is not what the plan says",
    ),
    "upper-case hash": (put("weights", "sha256", to="A" * 64), "weights.sha256: not a SHA-256 in lower-case"),
}


@pytest.mark.parametrize("case", INCONSISTENT)
def test_an_inconsistent_plan_is_refused(case: str, artifact: Path) -> None:
    def with_spares(plan: Json) -> None:
        spares = (
            value("low", ROW, "arena", 0, 0),
            value("high", ROW, "arena", 0, 64),
            value("tail", "int32[4]", "arena", 1, 240),
        )
        plan["graphs"]["main"]["values"] += spares
        plan["values"].append(value("w", ROWS, "weight", 0))

    Model(edit(artifact, with_spares))  # what the cases refer to is itself in order
    change, reason = INCONSISTENT[case]
    edit(artifact, change)
    message = refusal(artifact)
    assert reason in message
    assert "plan.json" in message or "weights.safetensors" in message
    assert message.endswith(AGAIN) or "use the runner of the penstock that wrote it" in message


def test_a_changed_plan_is_refused(artifact: Path) -> None:
    text = (artifact / "plan.json").read_bytes()
    for changed in (
        text.replace(b"1024", b"1025"),
        text + b" ",
        text[:-1],
        text.replace(b',\n "digest"', b',  "digest"'),
        text.replace(b'"\n}', b'", "note": 0\n}'),
    ):
        assert changed != text
        (artifact / "plan.json").write_bytes(changed)
        assert refusal(artifact) == f"plan.json: its content has changed since it was written{AGAIN}"
