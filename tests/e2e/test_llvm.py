"""Every model of the zoo, from capture to a loaded artifact that runs on this machine's CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import penstock
from benchmarks.tvm_vm import VirtualMachine, export, planned_bytes, to_tvm
from examples.zoo import ZOO
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.presets import LEGALIZE

pytestmark = pytest.mark.models


@pytest.mark.parametrize("name", ZOO)
def test_compiled_model_equals_eager(name: str, tmp_path: Path) -> None:
    module, args = ZOO[name]()
    with torch.no_grad():
        expected = module(*args)
    program = penstock.capture(module, args)
    assert torch.equal(penstock.reference(program, *args), expected), "capture is not bit-exact"
    program = penstock.optimize(program, target="llvm", pipeline="mobile")
    artifact = penstock.compile(program, target="llvm", output=tmp_path / "net.penstock", cache=False)
    loaded = penstock.load(tmp_path / "net.penstock")
    torch.testing.assert_close(loaded(*args), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loaded(*args), expected, rtol=1e-4, atol=1e-4, msg="a second run differs")
    memory = artifact.manifest.memory
    assert memory.arena_bytes <= 1.05 * memory.lower_bound_bytes
    assert memory.arena_bytes < planned_bytes(Pipeline(LEGALIZE).run(program)), "TVM's planner needs less"


@pytest.mark.parametrize("name", ["svd_vae_decoder", "hunyuan_dit", "mamba2", "llama"])
def test_the_runner_computes_what_tvms_virtual_machine_does(name: str, tmp_path: Path) -> None:
    program = penstock.optimize(penstock.capture(*ZOO[name]()), target="llvm")
    legal = Pipeline(LEGALIZE).run(program)
    weights = export(legal, tmp_path / "vm.so")["main"]
    machine = VirtualMachine(tmp_path / "vm.so", weights)
    expected = tuple(torch.from_numpy(value.numpy()) for value in machine.run([*map(to_tvm, legal.examples)]))
    loaded = penstock.compile(program, target="llvm", output=tmp_path / "net.penstock", cache=False)
    found = penstock.load(loaded.path).runner.run(program.examples)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
