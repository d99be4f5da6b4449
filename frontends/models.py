"""Finding a model: one in hand, or the one that a user names.

``net.pt2`` and ``net.onnx`` are files; ``package.module:factory`` and ``path/file.py:factory`` name a function without
arguments that returns ``(module, args)``, ``(module, args, kwargs)``, or a module with the attribute `example_inputs`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.export import ExportedProgram

from penstock.frontends.torch_export import capture_exported, capture_module, capture_pt2
from penstock.passes.core.errors import PenstockError, UsageError
from penstock.passes.core.printer import format_type, short_type
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import FAKE_MODE, dtype_name, fake_like
from penstock.passes.core.structure import leaves_of

Example = tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]

_FORMS = "a model is a .pt2 file, an .onnx file, package.module:factory or path/file.py:factory"
_RETURNS = "expected (module, args), (module, args, kwargs) or a module with the attribute example_inputs"


def capture_model(
    model: torch.nn.Module | ExportedProgram | str | Path,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Program:
    """Capture a model in hand, or the one that a path or string names; see `load_model`.

    Args:
        args: positional example arguments, instead of those that the model brings.
        kwargs: keyword example arguments.
    """
    if isinstance(model, (str, Path)):
        return load_model(str(model), args=args, kwargs=kwargs)
    if isinstance(model, torch.nn.Module):
        name = type(model).__name__
        if args is None and kwargs is None:
            model, args, kwargs = _example(model, f"{name} has no example arguments: call capture(module, args), or")
        return capture_module(model, tuple(args or ()), kwargs, name)
    if isinstance(model, ExportedProgram):
        return _checked(capture_exported(model, "an exported program", _given(args, kwargs)))
    raise UsageError(f"cannot capture {type(model).__name__}; expected a torch module, an ExportedProgram, or {_FORMS}")


def load_model(
    spec: str, fake: bool = False, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> Program:
    """Capture the model that a string names.

    Args:
        spec: a file, or a module and factory.
        fake: run the factory under a fake-tensor mode, so that a model of any size takes no memory. The Program can be
            analysed, not run. ``.pt2`` and ``.onnx`` files are read as they are.
        args: positional example arguments, instead of those that the model brings.
        kwargs: keyword example arguments.

    Raises:
        UsageError: there is no such file, module or function, or the factory fails or returns something else.
        CaptureError: the model cannot be captured.
    """
    path = Path(spec)
    if path.suffix in (".pt2", ".onnx"):
        if not path.is_file():
            raise UsageError(f"there is no file {spec}")
        if path.suffix == ".pt2":
            return _checked(capture_pt2(path, _given(args, kwargs)))
        from penstock.frontends.onnx import capture_onnx

        return capture_onnx(path, _given(args, kwargs))
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"'{spec}' is not a model: {_FORMS}")
    with _importable(path.resolve().parent if place.endswith(".py") else Path.cwd()):
        module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
        model, own_args, own_kwargs = _make(module, place, name, fake)
        if args is not None or kwargs is not None:
            own_args, own_kwargs = tuple(args or ()), dict(kwargs or {})
        shown = f"{Path(place).name}:{name}"
        return capture_module(model, own_args, own_kwargs, shown)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported, as `python -m` and `python file.py` do."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module '{error.name}', neither in {Path.cwd()} nor installed") from error
        raise UsageError(f"importing '{name}' failed: {_told(error)}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"importing '{name}' failed: {_told(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"penstock_model_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered, so that what the file defines (data classes, custom operators) finds its module.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise UsageError(f"running {path} failed: {_told(error)}") from error
    return module


def _make(module: ModuleType, place: str, name: str, fake: bool) -> Example:
    factory = getattr(module, name, None)
    if isinstance(factory, torch.nn.Module):
        return _example(factory, f"{place}:{name} is a module without example_inputs;")
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)[:8]
        raise UsageError(f"{place} has no function '{name}'" + (f"; it has {', '.join(near)}" if near else ""))
    try:
        with FAKE_MODE if fake else contextlib.nullcontext():
            made = factory()
    except PenstockError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"the factory {place}:{name} failed: {_told(error)}") from error
    model, args, kwargs = _example(made, f"the factory {place}:{name} returned {_described(made)};")
    return (model, fake_like(args), fake_like(kwargs)) if fake else (model, args, kwargs)


def _example(made: Any, problem: str) -> Example:
    """The module and its arguments; `problem` begins the error if they are not there."""
    if isinstance(made, torch.nn.Module) and hasattr(made, "example_inputs"):
        made = (made, made.example_inputs)
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not isinstance(made[0], torch.nn.Module):
        raise UsageError(f"{problem} {_RETURNS}")
    args, kwargs = made[1], made[2] if len(made) == 3 else {}
    args = (args,) if isinstance(args, torch.Tensor) else args
    if not isinstance(args, (tuple, list)) or not isinstance(kwargs, Mapping):
        raise UsageError(f"{problem} {_RETURNS}, where args is a tuple and kwargs a dict")
    return made[0], tuple(args), dict(kwargs)


def _given(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> list[torch.Tensor] | None:
    return None if args is None and kwargs is None else leaves_of((tuple(args or ()), dict(kwargs or {})))


def _checked(program: Program) -> Program:
    """The Program of an exported model, unless the examples given for it do not fit."""
    inputs = program.signature.inputs
    if len(program.examples) != len(inputs):
        states = len(program.signature.states)
        given = len(program.examples) - states
        raise UsageError(f"the exported model takes {len(inputs) - states} tensor(s), got {given}")
    for spec, tensor in zip(inputs, program.examples, strict=True):
        if (tuple(tensor.shape), tensor.dtype) != (spec.shape, spec.dtype):
            expected = short_type(dtype_name(spec.dtype), spec.shape)
            raise UsageError(f"example for input '{spec.name}': expected {expected}, got {format_type(tensor)}")
    return program


def _described(made: Any) -> str:
    if isinstance(made, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in made) or 'nothing'}"
    return type(made).__name__


def _told(error: BaseException) -> str:
    """The error and the innermost line of the user's own code, in one line."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/torch/" not in frame.filename and not frame.filename.startswith("<") and frame.filename != __file__
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        place = ""  # its message has it
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0] if message else 'no message'}{place}"
