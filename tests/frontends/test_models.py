from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch

from penstock.frontends.models import capture_model, load_model
from penstock.passes.core import reference
from penstock.passes.core.errors import CaptureError, UsageError
from penstock.passes.core.program import Program

HEAD = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)
    def forward(self, x, *, scale=None):
        y = self.linear(x)
        return y if scale is None else y * scale

def net():
    return Net(), (torch.ones(2, 4),)
"""


class Doubling(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """`write(text, name)`: a Python file below the current folder; the name of its module."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write(text: str, name: str = "nets_for_tests.py") -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(HEAD + text)
        return name.removesuffix(".py").replace("/", ".")

    yield write
    for name in set(sys.modules) - before:
        if "for_test" in name:
            del sys.modules[name]


def refusal(spec: str, fake: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        load_model(spec, fake)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shapes(program: Program) -> list[tuple[int, ...]]:
    return [spec.shape for spec in program.signature.inputs]


def test_module_and_file(write: Callable[..., str]) -> None:
    name = write("")
    path = list(sys.path)
    for spec in (f"{name}:net", "nets_for_tests.py:net", f"{Path.cwd()}/nets_for_tests.py:net"):
        program = load_model(spec)
        assert shapes(program) == [(2, 4)]
        assert not program.is_fake
    assert program.provenance == ("captured nets_for_tests.py:net",)
    assert sys.path == path


def test_package_and_siblings(write: Callable[..., str]) -> None:
    write("WIDTH = 4\n", "models_for_test/sizes_for_test.py")
    importing = "def made():\n    from sizes_for_test import WIDTH\n    return Net(), (torch.ones(3, WIDTH),)\n"
    write(importing, "models_for_test/video_for_test.py")
    assert shapes(load_model("models_for_test/video_for_test.py:made")) == [(3, 4)]
    assert shapes(load_model("models_for_test.video_for_test:net")) == [(2, 4)]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("return Net(), torch.ones(1, 4)", 1),
        ("return Net(), [torch.ones(1, 4)]", 1),
        ("return Net(), (torch.ones(1, 4),), {'scale': torch.ones(4)}", 2),
        ("net = Net(); net.example_inputs = (torch.ones(1, 4),); return net", 1),
    ],
)
def test_what_a_factory_may_return(write: Callable[..., str], body: str, count: int) -> None:
    name = write(f"def made():\n    {body}\n")
    assert len(load_model(f"{name}:made").signature.inputs) == count


def test_a_module_in_place_of_a_factory(write: Callable[..., str]) -> None:
    name = write("made = Net()\nmade.example_inputs = (torch.ones(1, 4),)\nbare = Net()\n")
    assert shapes(load_model(f"{name}:made")) == [(1, 4)]
    assert refusal(f"{name}:bare").startswith(f"{name}:bare is a module without example_inputs; expected (module,")


def test_arguments_instead_of_the_factorys_own(write: Callable[..., str]) -> None:
    name = write("")
    assert shapes(capture_model(f"{name}:net", (torch.ones(5, 4),), {"scale": torch.ones(4)})) == [(5, 4), (4,)]


def test_a_model_of_any_size_takes_no_memory(write: Callable[..., str]) -> None:
    name = write("def huge():\n    return Net(1_000_000), (torch.ones(2, 1_000_000),)\n")
    program = load_model(f"{name}:huge", fake=True)
    assert program.is_fake
    assert program.weight_bytes == 4 * (10**12 + 10**6)


def test_real_arguments_beside_a_fake_model(write: Callable[..., str]) -> None:
    name = write("ARGS = (torch.ones(2, 4),)\ndef made():\n    return Net(), ARGS\n")
    assert load_model(f"{name}:made", fake=True).is_fake


@pytest.mark.parametrize("spec", ["", "net", "net.py", "net.tflite", ":made", "net:", "out/net.penstock"])
def test_no_model(spec: str) -> None:
    forms = "a model is a .pt2 file, an .onnx file, package.module:factory or path/file.py:factory"
    assert refusal(spec) == f"'{spec}' is not a model: {forms}"


@pytest.mark.parametrize("spec", ["none.pt2", "none.onnx", "none.py:net"])
def test_no_file(spec: str) -> None:
    assert refusal(spec) == f"there is no file {spec.partition(':')[0]}"


def test_no_module(write: Callable[..., str]) -> None:
    write("", "package_for_test/a.py")
    where = f", neither in {Path.cwd()} nor installed"
    assert refusal("missing_for_test:net") == f"there is no module 'missing_for_test'{where}"
    assert refusal("package_for_test.b:net") == f"there is no module 'package_for_test.b'{where}"


def test_no_function(write: Callable[..., str]) -> None:
    name = write("def unet(): pass\n")
    assert refusal(f"{name}:unett") == f"{name} has no function 'unett'; it has unet, net"
    assert refusal(f"{name}:zzz") == f"{name} has no function 'zzz'; it has Net, net, unet"
    assert refusal(f"{name}:HEAD").startswith(f"{name} has no function 'HEAD'; it has ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import missing_for_test\n", "ModuleNotFoundError: No module named 'missing_for_test' (nets_for_tests.py:14)"),
        ("1 / 0\n", "ZeroDivisionError: division by zero (nets_for_tests.py:14)"),
        ("raise SystemExit(3)\n", "SystemExit: 3 (nets_for_tests.py:14)"),
        ("def (:\n", "SyntaxError: invalid syntax (nets_for_tests.py, line 14)"),
    ],
)
def test_a_file_that_does_not_run(write: Callable[..., str], text: str, told: str) -> None:
    name = write(text)
    assert refusal(f"{name}:net") == f"importing '{name}' failed: {told}"
    assert refusal("nets_for_tests.py:net") == f"running nets_for_tests.py failed: {told}"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ValueError('no weights')", "ValueError: no weights (nets_for_tests.py:15)"),
        ("return torch.ones(2) + torch.ones(3)", "RuntimeError: The size of tensor a (2) must match"),
        ("import sys; sys.exit()", "SystemExit: no message (nets_for_tests.py:15)"),
    ],
)
def test_a_factory_that_fails(write: Callable[..., str], body: str, told: str) -> None:
    name = write(f"def made():\n    {body}\n")
    assert refusal(f"{name}:made").startswith(f"the factory {name}:made failed: {told}")


def test_a_factory_that_takes_arguments(write: Callable[..., str]) -> None:
    name = write("def made(size): pass\n")
    assert "failed: TypeError: made() missing 1 required positional argument: 'size'" in refusal(f"{name}:made")


@pytest.mark.parametrize(
    ("returned", "described"),
    [
        ("None", "NoneType"),
        ("Net()", "Net"),
        ("(Net(),)", "a tuple of Net"),
        ("(torch.ones(1), Net())", "a tuple of Tensor, Net"),
        ("(Net(), 3)", "a tuple of Net, int"),
        ("(Net(), (), (), ())", "a tuple of Net, tuple, tuple, tuple"),
    ],
)
def test_a_factory_that_returns_something_else(write: Callable[..., str], returned: str, described: str) -> None:
    name = write(f"def made():\n    return {returned}\n")
    message = refusal(f"{name}:made")
    assert message.startswith(f"the factory {name}:made returned {described}; expected (module, args), (module, args,")


def test_a_capture_that_fails_is_no_wrong_usage(write: Callable[..., str]) -> None:
    name = write("def made():\n    return Net(), (torch.ones(2, 5),)\n")
    with pytest.raises(CaptureError, match="Net cannot be captured"):
        load_model(f"{name}:made")


def test_a_pt2_file(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Doubling(), (torch.ones(3),)), tmp_path / "net.pt2")
    program = capture_model(tmp_path / "net.pt2")
    assert torch.equal(reference.run(program, [torch.ones(3)])[0], torch.full((3,), 2.0))
    assert torch.equal(capture_model(tmp_path / "net.pt2", (torch.zeros(3),)).examples[0], torch.zeros(3))
    with pytest.raises(UsageError, match=r"example for input 'x': expected f32\[3\], got f32\[4\]"):
        capture_model(tmp_path / "net.pt2", (torch.zeros(4),))
    with pytest.raises(UsageError, match=r"the exported model takes 1 tensor\(s\), got 2"):
        capture_model(tmp_path / "net.pt2", (torch.zeros(3), torch.zeros(3)))


def test_an_onnx_file(tmp_path: Path) -> None:
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "net", [x], [y])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "net.onnx")
    program = load_model(str(tmp_path / "net.onnx"), args=(torch.ones(3),))
    assert torch.equal(reference.run(program, program.examples)[0], -torch.ones(3))


def test_a_model_in_hand() -> None:
    assert shapes(capture_model(Doubling(), (torch.ones(3),))) == [(3,)]
    assert shapes(capture_model(torch.export.export(Doubling(), (torch.ones(3),)))) == [(3,)]
    with_examples = Doubling()
    with_examples.example_inputs = (torch.ones(7),)
    assert shapes(capture_model(with_examples)) == [(7,)]
    with pytest.raises(UsageError, match=r"Doubling has no example arguments: call capture\(module, args\), or"):
        capture_model(Doubling())
    with pytest.raises(UsageError, match="cannot capture int; expected a torch module"):
        capture_model(3)  # type: ignore[arg-type]
