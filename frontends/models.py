"""Finding a model by what a user writes: a file, a module and factory, or a model in hand.

``net.pt2`` and ``net.onnx`` are files; ``package.module:factory`` and ``path/file.py:factory`` name a function without
arguments that returns ``(module, args)``, ``(module, args, kwargs)``, or a module with the attribute `example_inputs`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.export import ExportedProgram

from penstock.frontends.onnx import capture_onnx
from penstock.frontends.torch_export import capture_exported, capture_module, capture_pt2
from penstock.passes.core.errors import PenstockError, UsageError
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import FAKE_MODE
from penstock.passes.core.structure import leaves_of

_FORMS = "a model is a .pt2 file, an .onnx file, package.module:factory or path/file.py:factory"


def load_model(spec: str, fake: bool = False, args: Sequence[Any] | None = None) -> Program:
    """Capture the model that a string names.

    Args:
        spec: a file, or a module and factory.
        fake: run the factory under a fake-tensor mode, so that a model of any size takes no memory. The Program can be
            analysed, not run. Files are read as they are.
        args: example arguments for a file, instead of its own.

    Raises:
        UsageError: there is no such file, module or function, or the factory fails or returns something else.
        CaptureError: the model cannot be captured.
    """
    path = Path(spec)
    if path.suffix == ".pt2" or path.suffix == ".onnx":
        if not path.is_file():
            raise UsageError(f"{spec} does not exist")
        return capture_pt2(path, args) if path.suffix == ".pt2" else capture_onnx(path, args)
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"'{spec}' is not a model: {_FORMS}")
    factory = _find_factory(place, name)
    module, example_args, kwargs = _call(factory, spec, fake)
    return capture_module(module, example_args, kwargs, name=spec)


def capture_model(
    model: torch.nn.Module | ExportedProgram | str | Path,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Program:
    """Capture a model in hand, or the one that a path or string names; see `load_model`."""
    if isinstance(model, torch.nn.Module):
        if args is None and kwargs is None:
            raise UsageError(f"capturing {type(model).__name__} needs example arguments: capture(module, args)")
        return capture_module(model, args or (), kwargs)
    if isinstance(model, ExportedProgram):
        given = leaves_of((tuple(args or ()), dict(kwargs or {})))
        return capture_exported(model, "an ExportedProgram", given or None)
    if isinstance(model, (str, Path)):
        return load_model(str(model), args=args)
    raise UsageError(f"cannot capture {type(model).__name__}; expected a torch module, an ExportedProgram, or {_FORMS}")


def _find_factory(place: str, name: str) -> Callable[[], Any]:
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        known = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        listed = f"; it has {', '.join(known[:12])}" if known else ""
        raise UsageError(f"{place} has no function '{name}'{listed}")
    found: Callable[[], Any] = factory
    return found


def _import_module(name: str) -> ModuleType:
    # As `python -m` does: modules of the current folder can be named.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module '{name}' (looked in the current folder and sys.path)") from error
        raise UsageError(f"importing '{name}' failed: {error}") from error
    except Exception as error:
        raise UsageError(f"importing '{name}' failed: {_told(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered, so that what the file defines (data classes, custom operators) can be found by name.
    sys.modules.setdefault(path.stem, module)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"running {path} failed: {_told(error)}") from error
    return module


def _call(factory: Callable[[], Any], spec: str, fake: bool) -> tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]:
    try:
        if fake:
            with FAKE_MODE:
                made = factory()
        else:
            made = factory()
    except PenstockError:
        raise
    except Exception as error:
        raise UsageError(f"the factory {spec} failed: {_told(error)}") from error
    if isinstance(made, torch.nn.Module) and hasattr(made, "example_inputs"):
        made = (made, made.example_inputs)
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not isinstance(made[0], torch.nn.Module):
        raise UsageError(
            f"the factory {spec} returned {type(made).__name__}; expected (module, args), (module, args, kwargs) or a "
            f"module with the attribute example_inputs"
        )
    args = made[1] if isinstance(made[1], (tuple, list)) else (made[1],)
    return made[0], tuple(args), dict(made[2]) if len(made) == 3 else {}


def _told(error: Exception) -> str:
    """The error and the innermost line of the user's own code, in one line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/torch/" not in frame.filename]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0] if message else 'no message'}{place}"
