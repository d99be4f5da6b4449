from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from penstock.passes.core.errors import InvalidProgramError
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Rewriter

aten = torch.ops.aten


def test_nodes_are_made_before_their_place_is_replaced(capture: Callable[..., Program]) -> None:
    edit = Rewriter(capture(lambda x: x.relu().exp(), (torch.randn(4),)).graphs["main"], "late")
    (relu,) = edit.nodes(aten.relu.default)
    emit, (x,) = edit.at(relu), relu.args
    edit.replace(relu, emit(aten.clamp_min.default, x, 0))
    with pytest.raises(InvalidProgramError, match="late: 'relu' is replaced already; make the new nodes before that"):
        emit(aten.neg.default, x)
    with pytest.raises(InvalidProgramError, match="'relu' is replaced already"):
        emit.constant(torch.ones(4))
