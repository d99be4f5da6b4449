"""Comparing a resized program with the same model captured anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from penstock.frontends.torch_export import capture_module
from penstock.passes.core import reference
from penstock.passes.core.program import Program


def assert_as_captured(resized: Program, model: torch.nn.Module, args: Sequence[torch.Tensor]) -> None:
    """The resized program has the signature and the numbers, bit by bit, of the model captured with these arguments."""
    anew = capture_module(model, tuple(args))
    assert resized.signature == anew.signature
    assert [tuple(example.shape) for example in resized.examples] == [tuple(arg.shape) for arg in args]
    for one, other in zip(reference.run(resized, args), reference.run(anew, args), strict=True):
        assert torch.equal(one, other)
