"""An operator compiled twice, by penstock and by TVM alone: what `opencl_kernels` measures.

A case is a folder with two launch plans, each with its kernels and weights, as the native runner loads them. Nothing
here needs TVM, so that a folder of cases can be measured on a machine without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from penstock.backends.artifact.manifest import SignatureRecord
from penstock.backends.runner import Runner
from penstock.backends.targets import Target, find_target
from penstock.passes.core.program import TensorSpec

OURS, THEIRS = "ours", "tvm"
"""The folders of a case."""
INDEX = "cases.json"
LAYERS = "layers"
"""The model that stands for the layers of `benchmarks.kernels`."""


class Case(BaseModel):
    """One operator at one size.

    Attributes:
        folder: its name within that of all cases.
        shapes: of what it reads, for people.
        model: of the zoo, in which it was met first.
        size: of the model.
        flops: operations of one run.
        moved_bytes: the least that one run reads and writes.
        signature: of either plan.
    """

    model_config = ConfigDict(frozen=True)

    folder: str
    operator: str
    shapes: str
    model: str
    size: str
    flops: int
    moved_bytes: int
    signature: SignatureRecord

    def runners(self, cases: Path) -> tuple[Runner, Runner]:
        """Ours and TVM's, loaded from the folder of all cases."""
        ours, theirs = (self._runner(cases / self.folder / name) for name in (OURS, THEIRS))
        return ours, theirs

    def examples(self) -> list[torch.Tensor]:
        """Random inputs; zeros where they are integers, which may be indices."""
        return [example(record.spec()) for record in self.signature.inputs]

    def _runner(self, folder: Path) -> Runner:
        signature = self.signature.signature()
        return Runner(folder, signature.inputs, signature.outputs)


def example(spec: TensorSpec) -> torch.Tensor:
    """A random tensor, or zeros of an integer."""
    if spec.dtype.is_floating_point:
        return torch.randn(spec.shape, dtype=spec.dtype)
    return torch.zeros(spec.shape, dtype=spec.dtype)


def write_index(cases: Path, target: Target, held: Iterable[Case]) -> None:
    """Say what a folder of cases holds."""
    data = {"target": target.name, "cases": [case.model_dump(mode="json") for case in held]}
    (cases / INDEX).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_index(cases: Path) -> tuple[Target, Iterator[Case]]:
    """What `write_index` wrote."""
    data = json.loads((cases / INDEX).read_text(encoding="utf-8"))
    return find_target(data["target"]), map(Case.model_validate, data["cases"])
