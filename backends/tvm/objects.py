"""Machine code of CPU kernels: object files, made on every core at once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm

from penstock.backends.cores import in_parts


def object_files(functions: Mapping[str, Any], built_for: tvm.target.Target) -> dict[str, bytes]:
    """The object files that hold some scheduled TIR functions, by the names of the files.

    At least one, if an empty one. The functions do not look at their arguments' shapes and dtypes: the runner holds a
    launch plan against those of the kernels when it loads it.
    """
    made = in_parts(list(functions.items()), lambda part: _object_file(dict(part), built_for))
    return {f"kernels{index:03}.o": content for index, content in enumerate(made)}


def _object_file(functions: Mapping[str, Any], built_for: tvm.target.Target) -> bytes:
    with tvm.transform.PassContext(opt_level=3, config={"tirx.disable_assert": True}):
        built = tvm.tirx.build(tvm.IRModule(functions), target=built_for)
    content = b""

    def take(output: str, files: Sequence[str], options: Any = None, **_: Any) -> None:
        nonlocal content
        (file,) = files
        content = Path(file).read_bytes()
        Path(output).touch()

    take.object_format = "o"  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        built.export_library(str(Path(folder) / "kernels.o"), fcompile=take)
    return content
