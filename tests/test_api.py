from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import penstock
from penstock.backends.cache import Cache
from penstock.backends.targets import find_target
from penstock.passes.core.base import Pass
from penstock.passes.core.context import Declined
from penstock.passes.core.errors import BudgetError, UsageError
from penstock.passes.core.instruments import Instrument, Verify
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import FAKE_MODE
from penstock.passes.core.verify import Difference
from penstock.report import Report, build_report


class Net(torch.nn.Module):
    """Nested arguments and results, tied weights, a keyword, a constant, and a state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(8, 8)
        self.second = torch.nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.register_buffer("total", torch.full((2, 8), 0.5))
        self.total: torch.Tensor

    def forward(self, pair: list[torch.Tensor], factor: int, *, bias: torch.Tensor) -> dict[str, Any]:
        self.total.add_(pair[0])
        hidden = self.second(self.first(self.total)).relu() * factor + bias
        return {"hidden": hidden, "both": (pair[1] + 1, [hidden.sum()])}


PAIR = [torch.linspace(-1, 1, 16).reshape(2, 8), torch.ones(3)]
BIAS = torch.linspace(0, 1, 8)


@pytest.fixture(scope="module")
def program() -> Program:
    return penstock.capture(Net(), (PAIR, 3), {"bias": BIAS})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def compiled(program: Program, cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return penstock.compile(program, "llvm", tmp_path_factory.mktemp("out") / "net.penstock", cache=cache).path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_importing_the_package_is_light() -> None:
    code = "import sys, penstock; dir(penstock); print(sorted({'torch', 'numpy', 'tvm', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    assert set(penstock.__all__) <= set(dir(penstock))
    assert all(getattr(penstock, name) is not None for name in penstock.__all__)
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'optimise'"):
        _ = penstock.optimise


def test_reference_nests_as_the_model_does(program: Program) -> None:
    module = Net()
    expected = module(PAIR, 3, bias=BIAS)
    result, states = penstock.reference(program, PAIR, 3, bias=BIAS)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert list(states) == list(program.signature.states)
    assert torch.equal(states["total"], module.total)


def test_a_loaded_artifact_equals_eager_over_several_calls(compiled: Path) -> None:
    module, loaded = Net(), penstock.load(compiled)
    states: dict[str, torch.Tensor] = {}
    for _ in range(3):
        with torch.no_grad():
            expected = module(PAIR, 3, bias=BIAS)
        result, states = loaded(PAIR, 3, *states.values(), bias=BIAS)
        assert_same(result, expected)
    assert_same(states["total"], module.total)


def test_numpy_in_torch_out(compiled: Path) -> None:
    result, _ = penstock.load(compiled)([tensor.numpy() for tensor in PAIR], 3, bias=np.asarray(BIAS))
    assert_same(result, Net()(PAIR, 3, bias=BIAS))


def test_inputs_that_are_not_aligned(compiled: Path) -> None:
    odd = torch.cat([torch.zeros(1), PAIR[0].flatten()])[1:].reshape(2, 8)
    result, _ = penstock.load(compiled)([odd, PAIR[1]], 3, bias=BIAS)
    assert_same(result, Net()(PAIR, 3, bias=BIAS))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (([PAIR[0][:1], PAIR[1]], 3), {"bias": BIAS}, "input 'pair_0': expected f32[2, 8], got f32[1, 8]"),
        (([PAIR[0].double(), PAIR[1]], 3), {"bias": BIAS}, "input 'pair_0': expected f32[2, 8], got f64[2, 8]"),
        ((PAIR, 3), {}, "expected the keyword arguments bias, got (none)"),
        ((PAIR,), {"bias": BIAS}, "expected 2 positional argument(s), or 3 with the states total, got 1"),
        ((PAIR, 4), {"bias": BIAS}, "args[1]: was 3 at capture"),
    ],
)
def test_wrong_arguments(compiled: Path, program: Program, args: Any, kwargs: Any, message: str) -> None:
    for call in (penstock.load(compiled), lambda *a, **k: penstock.reference(program, *a, **k)):
        with pytest.raises(UsageError) as caught:
            call(*args, **kwargs)
        assert str(caught.value).startswith(message)


def test_run_takes_one_value_per_input(compiled: Path) -> None:
    loaded = penstock.load(compiled)
    assert [spec.name for spec in loaded.signature.inputs] == ["pair_0", "pair_1", "bias", "total"]
    examples = loaded.examples()
    outputs = loaded.run([examples[spec.name] for spec in loaded.signature.inputs])
    assert len(outputs) == len(loaded.signature.outputs)
    with pytest.raises(UsageError, match=r"expected 4 input\(s\), got 1"):
        loaded.run([BIAS])


def test_verify(compiled: Path, tmp_path: Path) -> None:
    for artifact in (compiled, str(compiled), penstock.load(compiled), penstock.load(compiled).artifact):
        differences = penstock.verify(artifact)
        names = [difference.name for difference in differences]
        assert names == ["output_0", "output_1", "output_2", "total_next"]
        assert all(difference.ok for difference in differences)


def test_verify_finds_wrong_numbers(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(program: Program, inputs: Any) -> tuple[torch.Tensor, ...]:
        return tuple(torch.full(spec.shape, 7.0) for spec in program.signature.outputs)

    monkeypatch.setattr("penstock.passes.core.reference.run", wrong)
    penstock.compile(program, "llvm", tmp_path / "net.penstock", cache=False)
    assert not any(difference.ok for difference in penstock.verify(tmp_path / "net.penstock"))


def test_the_cache_gives_the_same_bytes(program: Program, cache: Cache, compiled: Path, tmp_path: Path) -> None:
    hits, misses = cache.hits, cache.misses
    penstock.compile(program, "llvm", tmp_path / "again.penstock", cache=cache)
    assert (cache.hits, cache.misses) == (hits + 1, misses)
    assert content(tmp_path / "again.penstock") == content(compiled)


def test_without_the_cache_too(program: Program, compiled: Path, tmp_path: Path) -> None:
    penstock.compile(program, "llvm", tmp_path / "again.penstock", cache=False)
    assert content(tmp_path / "again.penstock") == content(compiled)


def test_the_users_cache(
    program: Program, compiled: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_CACHE", str(cache.folder))
    before = len(list(cache.folder.glob("*.penstock")))
    penstock.compile(program, "llvm", tmp_path / "again.penstock")
    assert len(list(cache.folder.glob("*.penstock"))) == before


def test_what_the_artifact_says(compiled: Path, program: Program) -> None:
    manifest = penstock.load(compiled).artifact.manifest
    assert (manifest.model, manifest.target.name, manifest.library) == ("Net", "llvm", "lib/model.so")
    assert manifest.memory.weight_bytes == penstock.memory(program).weight_bytes
    assert manifest.memory.activation_bytes == penstock.memory(program).activation_bytes
    assert manifest.kernels
    assert {kernel.file for kernel in manifest.kernels} <= set(manifest.files)
    assert all(item.exactness == "exact" for item in manifest.passes)
    report = Report.from_json((compiled / "report.json").read_bytes())
    assert (report.model, report.target) == ("Net", "llvm")
    assert [kernel.name for kernel in report.kernels] == [kernel.name for kernel in manifest.kernels]
    assert b"<html" in (compiled / "report.html").read_bytes()
    assert all(str(compiled.parent).encode() not in data for data in content(compiled).values())


def test_for_another_device(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "net.penstock"
    artifact = penstock.compile(program, "apple-a18-pro", path, precision="float16", cache=False)
    assert artifact.manifest.library is None
    assert artifact.manifest.passes[0].exactness == "lossy"
    loaded = penstock.load(path)
    assert loaded.signature.inputs[0].dtype == torch.float16
    half = [tensor.half() for tensor in PAIR]
    with pytest.raises(UsageError) as caught:
        loaded(half, 3, bias=BIAS.half())
    assert str(caught.value) == (
        f"{path} is compiled for apple-a18-pro ({find_target('apple-a18-pro').description[:-1]}) and does not run "
        f"here; run it on that device, or compile the model for the target 'llvm' or 'opencl' to run it here "
        f"(`penstock verify` simulates phone GPUs)"
    )
    assert all(difference.ok for difference in penstock.verify(loaded))


def test_for_another_machine(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = penstock.load(compiled)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(UsageError, match=r"this machine is \S+ on riscv64; compile the model on this machine"):
        loaded.verify()


def test_for_another_cpu(compiled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("penstock.backends.loaded.processor", lambda: "i486")
    assert penstock.verify(compiled)
    assert "this machine has i486; compile the model here if it stops with an illegal instruction" in caplog.text


def test_a_report_and_losses_are_kept(program: Program, tmp_path: Path) -> None:
    report = build_report(program, program, target="adreno-830", memory_budget=12345)
    losses = {"half-precision": [Difference("output_0", 0.5, 0.25, 1.0, 0.02)]}
    artifact = penstock.compile(program, "adreno-830", tmp_path / "net", cache=False, report=report, losses=losses)
    assert Report.from_json((tmp_path / "net" / "report.json").read_bytes()).memory_budget == 12345
    assert artifact.manifest.losses["half-precision"][0].max_error == 0.5


def test_compile_refuses_at_once(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.write_compiled", lambda *_, **__: pytest.fail("it compiled"))
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="mine exists and is not a penstock artifact"):
        penstock.compile(program, "llvm", tmp_path / "mine")
    with pytest.raises(UsageError, match="unknown target 'adreno-831'; did you mean adreno-830"):
        penstock.compile(program, "adreno-831", tmp_path / "out")
    with pytest.raises(UsageError, match="unknown precision 'int4'; expected float16 or float32"):
        penstock.compile(program, "llvm", tmp_path / "out", precision="int4")  # type: ignore[arg-type]
    with FAKE_MODE:
        module, args = torch.nn.Linear(4, 4), (torch.ones(1, 4),)
    with pytest.raises(UsageError, match="captured on fake tensors; capture it with real weights"):
        penstock.compile(penstock.capture(module, args), "llvm", tmp_path / "out")


class Watch(Instrument):
    def __init__(self) -> None:
        self.names: list[str] = []

    def before(self, current: Pass, program: Program) -> None:
        self.names.append(current.name())


def test_pipelines(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\n[[pass]]\nname = "named-convolution"\n')
    given: list[Any] = ["none", tmp_path / "mine.toml", str(tmp_path / "mine.toml"), ["named-convolution"]]
    ran = []
    for pipeline in given:
        watch = Watch()
        penstock.optimize(program, pipeline=pipeline, instruments=[watch, Verify()])
        ran.append(watch.names)
    assert ran == [[], ["named-convolution"], ["named-convolution"], ["named-convolution"]]
    with pytest.raises(UsageError, match=r"unknown pipeline 'fast'; the presets are none, .*ends in \.toml"):
        penstock.optimize(program, pipeline="fast")


def test_half_precision_comes_last(program: Program) -> None:
    watch = Watch()
    half = penstock.optimize(program, pipeline=["named-convolution"], precision="float16", instruments=[watch])
    assert watch.names == ["named-convolution", "half-precision"]
    assert penstock.memory(half).weight_bytes * 2 == penstock.memory(program).weight_bytes


def test_what_passes_declined_is_handed_out(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    class Decline(Pass):
        """Decline the first operator."""

        def run(self, program: Program, context: Any) -> Program:
            context.decline("decline", next(iter(program.graphs["main"].graph.nodes)), "no reason")
            return program

    declined: list[Declined] = []
    with caplog.at_level(logging.INFO, "penstock"):
        penstock.optimize(program, pipeline=[Decline()], declined=declined)
    assert [item.reason for item in declined] == ["no reason"]
    assert "declined: decline: " in caplog.text


def test_the_launch_plan_keeps_to_the_budget_too(program: Program, tmp_path: Path) -> None:
    """Padding and the like is known only when kernels are there; then nothing is written."""
    fits = penstock.compile(program, "llvm", tmp_path / "fits.penstock", memory_budget="1GiB", cache=False)
    needed = fits.manifest.memory.weight_bytes + fits.manifest.memory.arena_bytes
    penstock.compile(program, "llvm", tmp_path / "exact.penstock", memory_budget=needed, cache=False)
    with pytest.raises(BudgetError, match=r"is not kept: the launch plan needs") as caught:
        penstock.compile(program, "llvm", tmp_path / "less.penstock", memory_budget=needed - 1, cache=False)
    assert caught.value.excess == 1
    assert not (tmp_path / "less.penstock").exists()


def test_budgets(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    need = penstock.memory(program).peak_bytes
    for budget in (need, str(need), "1GiB", None):
        assert penstock.optimize(program, "llvm", budget, pipeline="none").graphs == program.graphs
    with pytest.raises(BudgetError, match=f"the memory budget of {need - 1} B cannot be met"):
        penstock.optimize(program, "llvm", need - 1, pipeline="none")
    with caplog.at_level(logging.INFO, "penstock"):
        penstock.optimize(program, "llvm", "min", pipeline="none")
    assert f"the least that the passes reach is {need} B" in caplog.text
    with pytest.raises(UsageError, match="'much' is not a size"):
        penstock.optimize(program, memory_budget="much", pipeline="none")


def test_attention_scores_count_only_where_they_are_stored() -> None:
    class Attention(torch.nn.Module):
        def forward(self, q: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(q, q, q)

    program = penstock.capture(Attention(), (torch.ones(1, 2, 64, 8),))
    fused, stored = (penstock.memory(program, attention=mode) for mode in ("fused", "materialized"))
    assert stored.activation_bytes - fused.activation_bytes == 2 * 4 * 2 * 64 * 64
    assert penstock.optimize(program, memory_budget=fused.peak_bytes, pipeline="none") is program
