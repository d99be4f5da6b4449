"""The schema of ``manifest.json``, and the checks that need nothing but its text.

Records are frozen and refuse unknown keys. A change that an older penstock would misread raises `SCHEMA_VERSION`.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from penstock.backends.artifact.consistency import problems
from penstock.backends.digest import is_signed, sign
from penstock.backends.targets import Target
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Plan, Signature, TensorSpec
from penstock.passes.core.shapes import dtype_name, dtype_named
from penstock.passes.core.structure import Structure

SCHEMA_VERSION: Literal[2] = 2
MANIFEST = "manifest.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class FileRecord(_Record):
    """One file of the artifact; the size is in bytes."""

    sha256: str
    size: int


class TensorRecord(_Record):
    """One tensor at the border of the program."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @staticmethod
    def of(spec: TensorSpec) -> TensorRecord:
        """The record of a spec."""
        return TensorRecord(name=spec.name, shape=spec.shape, dtype=dtype_name(spec.dtype))

    def spec(self) -> TensorSpec:
        """The spec of the record."""
        return TensorSpec(self.name, self.shape, dtype_named(self.dtype))


class SignatureRecord(_Record):
    """`Signature` as plain data."""

    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    arguments: Structure
    result: Structure
    states: tuple[str, ...]

    @staticmethod
    def of(signature: Signature) -> SignatureRecord:
        """The record of a signature."""
        return SignatureRecord(
            inputs=tuple(map(TensorRecord.of, signature.inputs)),
            outputs=tuple(map(TensorRecord.of, signature.outputs)),
            arguments=signature.arguments,
            result=signature.result,
            states=signature.states,
        )

    def signature(self) -> Signature:
        """The signature of the record."""
        inputs, outputs = (tuple(item.spec() for item in items) for items in (self.inputs, self.outputs))
        return Signature(inputs, outputs, self.arguments, self.result, self.states)


class AppliedPass(_Record):
    """One pass that ran, with its options as ``--pass`` takes them."""

    setting: str
    exactness: Literal["exact", "lossy"]


class LossRecord(_Record):
    """How far a lossy pass moved one output; see `Difference`."""

    output: str
    max_error: float
    mean_error: float
    scale: float


class MemoryRecord(_Record):
    """What the program needs of a device, in bytes.

    Attributes:
        weight_bytes: all distinct weights.
        activation_bytes: the graph's values alive at the peak, by liveness.
        arena_bytes: what the launch plan allocates for inputs, outputs, activations and the kernels' temporaries.
        lower_bound_bytes: the largest set of those that are alive together.
    """

    weight_bytes: int
    activation_bytes: int
    arena_bytes: int
    lower_bound_bytes: int


class KernelRecord(_Record):
    """One kernel: its source file, the types of its buffers, how it is launched and what it does.

    Attributes:
        launches: in one run of the plan.
        flops: floating-point operations of one launch; 0 where nobody counted.
        moved_bytes: the least that one launch reads and writes.
        faults: which criteria for GPU kernels it does not meet.
    """

    name: str
    file: str
    language: str
    arguments: tuple[str, ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    local_memory_bytes: int
    launches: int = 0
    flops: int = 0
    moved_bytes: int = 0
    faults: tuple[str, ...] = ()


class HostRecord(_Record):
    """The machine that a library was compiled on and for. Empty where the target names its own host.

    Attributes:
        cpu: what LLVM calls the CPU, and compiles for.
        processor: what the CPU calls itself.
    """

    system: str = ""
    machine: str = ""
    cpu: str = ""
    processor: str = ""


class Description(_Record):
    """Everything that the compiler says of an artifact.

    Attributes:
        model: what was captured.
        passes: what was done to it, in order.
        losses: by lossy pass, how far it moved each output, as far as it was measured.
        functions: for each graph, the weights that it reads.
        library: the file that holds the kernels of a CPU, None for a GPU.
        tools: the versions that made it.
    """

    model: str
    target: Target
    host: HostRecord
    plan: Plan
    signature: SignatureRecord
    passes: tuple[AppliedPass, ...]
    losses: dict[str, tuple[LossRecord, ...]]
    memory: MemoryRecord
    kernels: tuple[KernelRecord, ...]
    functions: dict[str, tuple[str, ...]]
    library: str | None
    tools: dict[str, str]

    @property
    def weight_names(self) -> list[str]:
        """The weights of all functions, sorted, each once."""
        return sorted({name for names in self.functions.values() for name in names})


class Manifest(Description):
    """The description, and what the writer adds.

    Attributes:
        aliases: weights that are stored under another name, because the two are equal.
        files: every other file of the artifact.
    """

    format: Literal["penstock"] = "penstock"
    schema_version: Literal[2] = SCHEMA_VERSION
    aliases: dict[str, str]
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        problem = next(problems(self), None)
        if problem:
            raise ValueError(problem)
        return self

    def to_json(self) -> bytes:
        """Sorted keys, one stable text, with its own digest at the end."""
        data = json.loads(self.model_dump_json())
        return sign(json.dumps(data, indent=1, sort_keys=True, allow_nan=False).removesuffix("\n}"))


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Read what `Manifest.to_json` wrote.

    Raises:
        UsageError: not JSON, made by a newer penstock, or not what the schema asks for; it names `where`.
    """
    again = "compile the model again"
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is damaged: not JSON ({error}); {again}") from error
    if not isinstance(data, dict) or data.get("format") != "penstock":
        raise UsageError(f"{where} is not the manifest of a penstock artifact")
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(
            f"{where} has schema version {version}, this penstock reads up to {SCHEMA_VERSION}; upgrade penstock"
        )
    if not is_signed(content):
        raise UsageError(f"{where} is damaged: its content has changed since it was written; {again}")
    try:
        del data["digest"]
        return Manifest.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where} is damaged: {place + ': ' if place else ''}{reason}; {again}") from error
