"""The ONNX front end: a module interprets the ONNX graph with torch functions, and is captured like any other model."""

from __future__ import annotations

from penstock.frontends.onnx.capture import capture_onnx

__all__ = ["capture_onnx"]
