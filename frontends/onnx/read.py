"""Reading an ONNX file: parsed, checked, and refused in one line when it is damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto

from penstock.frontends.onnx.registry import OLDEST_OPSET
from penstock.passes.core.errors import UsageError

_VERSION_ADVICE = "convert it with onnx.version_converter.convert_version(model, 18) and check its numbers"


@dataclass(frozen=True)
class OnnxFile:
    """A checked model.

    Attributes:
        model: tensors that are stored outside the file are not in it.
        folder: where those files lie.
        name: what to call the model.
    """

    model: ModelProto
    folder: Path
    name: str

    @property
    def opsets(self) -> dict[str, int]:
        """The version of each operator domain; '' is ONNX's own."""
        return opsets_of(self.model)


def read_onnx(source: Path | str | ModelProto) -> OnnxFile:
    """Read and check a model.

    Raises:
        UsageError: the file is missing, truncated, not ONNX, breaks ONNX's rules, lacks its data files, or is of an
            opset before 13.
    """
    if isinstance(source, ModelProto):
        file = OnnxFile(source, Path(), source.graph.name or "the ONNX model")
    else:
        path = Path(source)
        try:
            model = onnx.load(path, format="protobuf", load_external_data=False)
        except (OSError, DecodeError) as error:
            raise UsageError(f"cannot read {path} as an ONNX file: {_first_line(error)}") from error
        file = OnnxFile(model, path.parent, path.name)
    try:
        onnx.checker.check_model(source if isinstance(source, ModelProto) else str(source))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise UsageError(f"{file.name} is not a valid ONNX model: {_first_line(error)}") from error
    opset = file.opsets.get("", OLDEST_OPSET)
    if opset < OLDEST_OPSET:
        raise UsageError(
            f"{file.name} is of opset {opset}, and opsets from {OLDEST_OPSET} on are read; {_VERSION_ADVICE}"
        )
    if file.model.graph.sparse_initializer:
        raise UsageError(f"{file.name} holds sparse tensors; store them dense")
    return file


def opsets_of(model: ModelProto) -> dict[str, int]:
    """The version of each operator domain of a model; '' is ONNX's own, which ``ai.onnx`` means as well."""
    return {"" if item.domain == "ai.onnx" else item.domain: item.version for item in model.opset_import}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
