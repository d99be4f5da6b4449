from __future__ import annotations

import torch
from torch import nn

from penstock.frontends.torch_export import capture_module
from penstock.passes.core.printer import format_program


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = self.conv(x).chunk(2, 1)
        return first * 2.5, second


LISTING = """\
input x f32[1, 2, 8]
output output_0 f32[1, 2, 6], output_1 f32[1, 2, 6]
phase main
  (output_0, output_1) = main(x)

graph main
  w    conv.weight                            f32[4, 2, 3]
  w    conv.bias                              f32[4]
  in   x                                      f32[1, 2, 8]
  conv1d = conv1d(x, conv.weight, conv.bias)  f32[1, 4, 6]
  split = split(conv1d, 2, 1)                 (f32[1, 2, 6], f32[1, 2, 6])
  getitem = getitem(split, 0)                 f32[1, 2, 6]
  getitem_1 = getitem(split, 1)               f32[1, 2, 6]
  mul = mul(getitem, 2.5)                     f32[1, 2, 6]
  return (mul, getitem_1)
"""


def test_listing() -> None:
    assert format_program(capture_module(Net(), (torch.randn(1, 2, 8),))) == LISTING


def test_sources_name_module_and_line() -> None:
    text = format_program(capture_module(Net(), (torch.randn(1, 2, 8),)), sources=True)
    (conv,) = [line for line in text.splitlines() if "conv1d = " in line]
    assert "# conv · core/test_printer.py:" in conv
    assert conv.endswith("in forward")
