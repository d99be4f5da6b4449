from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import penstock
from penstock.passes.cleanup.canonicalize import Canonicalize

X = torch.randn(2, 3, 4)


def test_layout_becomes_one_view(run_pass, assert_listing):
    _, after = run_pass(lambda x: x.transpose(1, 2).permute(0, 2, 1).view(2, 12).view(24), (X,), Canonicalize())
    assert_listing(
        after,
        ("graph main\n  in   x                 f32[2, 3, 4]\n  view_1 = view(x, [24])  f32[24]\n  return (view_1)\n"),
    )


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x.view(2, 3, 4) + 1,
        lambda x: x.expand(2, 3, 4) + 1,
        lambda x: x[:, 0:3] + 1,
        lambda x: x.repeat(1, 1, 1) + 1,
        lambda x: F.pad(x, (0, 0)) + 1,
        lambda x: x.clone() + 1,
        lambda x: x.contiguous() + 1,
        lambda x: x.to(torch.float32) + 1,
        lambda x: F.dropout(x, 0.5, training=False) + 1,
        lambda x: (x + 0) + 1,
        lambda x: (x * 1) + 1,
        lambda x: x / 1.0 + 1,
        lambda x: x.permute(0, 1, 2) + 1,
        lambda x: x.transpose(1, 2).transpose(1, 2) + 1,
    ],
)
def test_what_changes_nothing_goes(run_pass, op_names, model):
    _, after = run_pass(model, (X,), Canonicalize())
    assert op_names(after) == ["add"]


def test_strides_of_dimensions_of_one_element_do_not_matter(run_pass, op_names):
    pooled = torch.randn(1, 3, 1)
    _, after = run_pass(lambda x: x.as_strided((1, 3, 1), (3, 1, 7)) + 1, (pooled,), Canonicalize())
    assert op_names(after) == ["add"]


def test_transposes_are_permutes(run_pass, op_names):
    _, after = run_pass(lambda x: (x.transpose(-1, -2), x[0].t()), (X,), Canonicalize())
    assert set(op_names(after)) <= {"permute", "select.int"}


def test_effects_are_kept(run_pass):
    def model(x):
        return x.permute(0, 2, 1).contiguous(), x * 1.5, x.to(torch.float64), x + torch.zeros(1), x[:, 1:]

    before, after = run_pass(model, (X,), Canonicalize())
    assert after is before


@pytest.mark.parametrize(
    "model",
    [
        lambda x: F.pad(x, (1, -1)) + 1,  # as state-space and recurrent models shift time
        lambda x: x.contiguous().as_strided((2, 3, 4), (12, 1, 3)) + 1,
    ],
)
def test_elements_that_move_within_the_same_shape_stay_moved(run_pass, model):
    _, after = run_pass(model, (X,), Canonicalize())
    assert torch.equal(penstock.reference(after, X), model(X))


def test_integers_divided_by_one_become_floats(run_pass):
    before, after = run_pass(lambda x: x / 1, (torch.arange(4),), Canonicalize())
    assert after is before


def test_a_view_that_strides_forbid_is_left(run_pass):
    def model(x):
        return x.permute(0, 2, 1).unsqueeze(-1).view(2, 4, 3).sum(-1)

    run_pass(model, (X,), Canonicalize())
